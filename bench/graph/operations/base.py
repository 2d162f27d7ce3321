"""An operation of a network, and the table in which it is found by what it handles."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from torch import fx, nn

from bench.graph.channels import CannotFollow
from bench.graph.coupled_groups import Signal
from bench.graph.following import Following, Signals
from bench.graph.nodes import called
from bench.graph.rewriting import Pieces, Rewriting

# A function of a library that need not be imported is named by its module and name.
Function = Callable[..., Any] | str
_TABLE: dict[object, type["Operation"]] = {}


class Operation(ABC):
    """One call in a network: how channels flow through it, and how it is written with fewer of them.

    A subclass says what calls it handles, and is found by that. Both of its methods must agree on
    what a call means: a channel that `follow` says is dead is one that `rewrite` leaves out.

    Attributes:
        modules: classes of modules, subclasses of them included.
        functions: such as `torch.cat`, or "library.module.name".
        methods: names of methods of a tensor.
        resizes: True where a number of channels among the arguments is right in the smaller network
            too, because it is the size of what is put out.
        node: the call.
    """

    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    functions: ClassVar[tuple[Function, ...]] = ()
    methods: ClassVar[tuple[str, ...]] = ()
    resizes: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        for handled in _handled_by(cls):
            known = _TABLE.setdefault(handled, cls)
            if known is not cls:
                raise TypeError(f"{handled} is handled by {known.__name__} and by {cls.__name__}")

    def __init__(self, node: fx.Node) -> None:
        self.node = node

    @abstractmethod
    def follow(self, given: list[Signal], walk: Following) -> Signals:
        """Return what comes out of the call.

        Args:
            given: the tensors that go in; at least one.

        Raises:
            CannotFollow: it is not known what a channel is after this call.
        """

    @abstractmethod
    def rewrite(self, smaller: Rewriting) -> Pieces:
        """Write the call into the smaller network, and return what comes out of it.

        Raises:
            CannotCut: the smaller network would compute something else.
        """

    def expect(self, is_understood: bool) -> None:
        """Refuse a call whose arguments are not of the kind that is known.

        Raises:
            CannotFollow: it is one.
        """
        if not is_understood:
            raise CannotFollow(f"{self.node.name!r} is called in a way that is not understood")

    def only(self, given: list[Signal]) -> Signal:
        """Return the one tensor that goes in."""
        self.expect(len(given) == 1)
        return given[0]


def _handled_by(cls: type[Operation]) -> Iterator[object]:
    own = vars(cls)
    yield from own.get("modules", ())
    yield from own.get("functions", ())
    yield from (("method", name) for name in own.get("methods", ()))


def handler_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> type[Operation] | None:
    """Return the class that handles a call; None where nothing is known of it."""
    keys: Iterator[object]
    if node.op == "call_module":
        keys = iter(type(modules[str(node.target)]).__mro__)  # the most special class first
    elif node.op == "call_method":
        keys = iter([("method", node.target)])
    else:
        names = (getattr(node.target, name, "") for name in ("__module__", "__name__"))
        keys = iter([node.target, ".".join(map(str, names))])
    return next((_TABLE[key] for key in keys if key in _TABLE), None)


def unknown(node: fx.Node, modules: Mapping[str, nn.Module]) -> CannotFollow:
    """Return the refusal of a call that may make something else of a zero."""
    return CannotFollow(f"{called(node, modules)} is not known to keep a zero channel at zero")
