"""The second tier of tests, for single cases of a test that has others in the first."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Return the parameters of a case that `make test` leaves out."""
    return pytest.param(*values, marks=pytest.mark.slow)
