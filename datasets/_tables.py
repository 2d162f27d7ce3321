"""A reader of the tables that CIFAR's files hold: a part of pickle, by which nothing can be called.

Python's own reader is not used: what a file names is run by it, and ten bytes can ask it for 32 GB. Here
opcodes are followed one by one, a string is never longer than what is left of the file, and what a file may
name are five stand-ins that only keep what they are given.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_MARK = object()
_NOTHING = ("PROTO", "FRAME", "STOP")
_VALUES = frozenset((
    "BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING", "STRING", "BINUNICODE",
    "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1",
    "LONG4", "FLOAT", "BINFLOAT",
))  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_STORES, _RECALLS = {"PUT", "BINPUT", "LONG_BINPUT"}, {"GET", "BINGET", "LONG_BINGET"}


class NotATable(Exception):
    """The file holds something else; the reason, in words."""


@dataclass
class Named:
    """Something that a file names, or has made of it: what it was given, never called."""

    module: str
    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
}  # fmt: skip


def read_table(data: bytes) -> dict[bytes, Any]:
    """Return the dictionary in a file, with its keys and strings as bytes, and arrays as what was named.

    Raises:
        NotATable: it holds anything else.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        (content,) = machine.stack
        if isinstance(content, dict):
            return {k.encode() if isinstance(k, str) else k: v for k, v in content.items()}
    except NotATable:
        raise
    except Exception as error:  # a damaged file may fail in any way
        raise NotATable(str(error).partition("\n")[0] or type(error).__name__) from error
    raise NotATable("it holds no dictionary")


class _Machine:
    """The stack and the memory of a pickle, opcode by opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Follow one opcode; the most frequent come first."""
        if name in _VALUES:
            self.stack.append(_value(name, argument))
        elif name in _STORES:
            self.memory[argument] = self.stack[-1]
        elif name in _RECALLS:
            self.stack.append(self.memory[argument])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self._last(_TUPLES[name])))
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _STEPS:
            _STEPS[name](self)
        elif name == "GLOBAL":
            self._name(*argument.split(" ", 1))
        elif name not in _NOTHING:
            raise NotATable(f"its opcode {name} belongs to no image table")

    def _memoize(self) -> None:
        self.memory[len(self.memory)] = self.stack[-1]

    def _mark(self) -> None:
        self.stack.append(_MARK)

    def _tuple(self) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _list(self) -> None:
        self.stack.append(self._since_mark())

    def _dict(self) -> None:
        self._fill({}, self._since_mark())

    def _append(self) -> None:
        (item,) = self._last(1)
        self._list_on_top().append(item)

    def _appends(self) -> None:
        items = self._since_mark()
        self._list_on_top().extend(items)

    def _setitem(self) -> None:
        items = self._last(2)
        self._fill(self.stack.pop(), items)

    def _setitems(self) -> None:
        items = self._since_mark()
        self._fill(self.stack.pop(), items)

    def _stack_global(self) -> None:
        self._name(*self._last(2))

    def _name(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str) and (module, name) in _KNOWN):
            raise NotATable(f"it asks for {module}.{name}, which no image table needs")
        self.stack.append(Named(module, name))

    def _reduce(self) -> None:
        """Keep what a stand-in would be called with; `_codecs.encode` writes bytes into old pickles."""
        function, arguments = self._last(2)
        if not isinstance(function, Named) or not isinstance(arguments, tuple):
            raise NotATable("it calls what no image table calls")
        if function.name != "encode":
            self.stack.append(Named(function.module, function.name, arguments))
        elif arguments and isinstance(arguments[0], str):
            self.stack.append(arguments[0].encode("latin-1"))
        else:
            raise NotATable("it encodes what is no text")

    def _build(self) -> None:
        (state,) = self._last(1)
        if not isinstance(self.stack[-1], Named):
            raise NotATable("it gives a state to what no image table has")
        self.stack[-1].state = state

    def _last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise NotATable("it takes more than it holds")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _list_on_top(self) -> list[Any]:
        if not isinstance(self.stack[-1], list):
            raise NotATable("it appends to what is no list")
        return self.stack[-1]

    def _fill(self, table: Any, items: list[Any]) -> None:
        keys = items[::2]
        # A key of other kinds may take for ever to be hashed.
        if not isinstance(table, dict) or any(type(key) not in (str, bytes, int) for key in keys):
            raise NotATable("it has a table whose keys are no names")
        table.update(zip(keys, items[1::2], strict=True))
        self.stack.append(table)


_STEPS: dict[str, Callable[[_Machine], None]] = {
    "MARK": _Machine._mark, "TUPLE": _Machine._tuple, "LIST": _Machine._list, "DICT": _Machine._dict,
    "APPEND": _Machine._append, "APPENDS": _Machine._appends, "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems, "MEMOIZE": _Machine._memoize, "REDUCE": _Machine._reduce,
    "STACK_GLOBAL": _Machine._stack_global, "BUILD": _Machine._build,
}  # fmt: skip


def _value(name: str, argument: Any) -> Any:
    """Return a value; strings of Python 2 are bytes."""
    return argument.encode("latin-1") if name.endswith("STRING") else argument
