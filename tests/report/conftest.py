"""A results folder that most report tests read."""

from pathlib import Path

import pytest
from made_up_results import Maker, fill


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    return fill(Maker(tmp_path / "results"))
