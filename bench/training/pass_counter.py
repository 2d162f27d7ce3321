"""Count the multiply-adds of every pass, wherever it is made: through copies, graphs, functional calls."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class PassCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts while it is entered: convolutions and matrix products, forward and backward.

    Attributes:
        multiply_adds: since it was made. Recurrent layers that a library computes whole are not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # fmt: skip
        options = dict(kwargs or {})
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:  # in inference mode a layer arrives whole
                made = func.decompose(*args, **options)
            if made is not NotImplemented:
                return made
        made = func(*args, **options)
        if formula is not None:
            self.multiply_adds += int(formula(*args, **options, out_val=made)) // 2
        return made
