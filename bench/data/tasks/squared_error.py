"""The squared error of the best constant output, which a network must be better than."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def is_constant(error: "Tensor", targets: "Tensor") -> bool:
    """Return True where a squared error is no lower than that of the best constant output."""
    wanted = targets.double()
    return bool(error >= (wanted - wanted.mean(0)).square().mean())
