"""Hashes of source code: the identity of plug-ins, of what a phase runs, and of the harness itself.

Comments, docstrings and layout do not count. The neighbours a plug-in imports do. `inspect.getsource`
would read the file at the time of the call: a file edited during a run would count as new code
while the old code still runs, so every hash is taken at import and kept.
"""

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from bench.errors import TrialFailed
from bench.store.json_values import JsonObject
from bench.store.syntax_hash import of_source

_BY_MODULE: dict[str, str] = {}
# What decides a training's numbers: whole rooms, so that no file can be forgotten.
_DECIDING_ROOMS = ("data", "graph", "pruning", "training")
_DECIDING_FILES = ("apportion.py", "seeds.py")


def of_module(name: str) -> str:
    """Return the hash of an imported module and of the neighbours it imports.

    Raises:
        LookupError: the module has no source file (it was typed into a prompt, say).
    """
    if name not in _BY_MODULE:
        spec = sys.modules[name].__spec__
        # A user's file was read before it was imported, with neighbours that are not imported yet.
        own: Callable[[], str] | None = getattr(spec and spec.loader, "source_hash", None)
        _BY_MODULE[name] = own() if own is not None else _of_files(_files_of(name))
    return _BY_MODULE[name]


def of_object(thing: object) -> str:
    """Return the hash of the module that defines a class or function."""
    return of_module(thing.__module__)


def of_core() -> str:
    """Return the hash of everything in the harness that decides a training's numbers."""
    if "core" not in _BY_MODULE:
        root = Path(__file__).resolve().parents[1]
        rooms = [f for room in _DECIDING_ROOMS for f in sorted((root / room).rglob("*.py"))]
        _BY_MODULE["core"] = _of_files({*rooms, *(root / name for name in _DECIDING_FILES)})
    return _BY_MODULE["core"]


def of_function(fn: Callable[..., object]) -> JsonObject:
    """Return what identifies a function: its module's code, its name and, for a method, its object's fields.

    Raises:
        TrialFailed: it is a closure, a lambda or an object, whose hidden values no key could see.
    """
    if not (inspect.isroutine(fn) and hasattr(fn, "__qualname__")):
        raise TrialFailed(
            f"{fn!r} is an object or a closure of values that a phase's key cannot see; "
            "write a function at the top of a module"
        )
    if fn.__module__.startswith("torch."):
        return {"name": f"{fn.__module__}.{fn.__qualname__}"}
    owner = getattr(fn, "__self__", None)
    plain = inspect.unwrap(fn)
    if owner is None and (getattr(plain, "__closure__", None) or plain.__name__ == "<lambda>"):
        raise TrialFailed(
            f"{plain.__qualname__} is a closure, whose hidden values a phase's key cannot see; "
            "write it at the top of a module and pass the values as arguments"
        )
    facts: JsonObject = {"name": plain.__qualname__, "code": of_code(plain)}
    if owner is not None:
        facts["owner"] = of_class(type(owner))
        facts["fields"] = {k: repr(v) for k, v in vars(owner).items()}
    return facts


def of_class(cls: type) -> list[str]:
    """Return what identifies a class: its own code and that of its bases."""
    return [of_code(c) for c in cls.__mro__ if c.__module__ != "builtins"]


def of_code(thing: type | Callable[..., object]) -> str:
    """Return the name of a function or class with the hash of its module's code."""
    return f"{thing.__qualname__}:{of_object(thing)}"


def is_other_code(then: str, now: str) -> bool:
    """Return True for hashes of different code; one of an older kind, which is shorter, says nothing."""
    return then != now and len(then) == len(now)


def _of_files(paths: set[Path]) -> str:
    """Return the hash of several files' code; where they stand does not count."""
    parts = sorted(of_source(path.read_bytes()) for path in paths)
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:32]


def _files_of(name: str) -> set[Path]:
    """Return the source file of a module and those of the modules beside it that it imports."""
    found: set[Path] = set()
    waiting = [name]
    while waiting:
        module = sys.modules[waiting.pop()]
        path = _source_file(module)
        if path in found:
            continue
        found.add(path)
        for imported in _imports(ast.parse(path.read_text(encoding="utf-8")), module.__package__):
            neighbour = sys.modules.get(imported)
            if neighbour is not None and _is_beside(neighbour, path):
                waiting.append(imported)
    return found


def _imports(tree: ast.Module, package: str | None) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or node.level):
            base = node.module or ""
            if node.level:
                base = resolve_name("." * node.level + base, package)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return names


def _is_beside(module: ModuleType, path: Path) -> bool:
    file = str(getattr(module, "__file__", None) or "")
    return bool(file) and Path(file).resolve().parent == path.parent and not file.endswith(".so")


def _source_file(module: ModuleType) -> Path:
    if not getattr(module, "__file__", None):
        raise LookupError(f"{module.__name__} has no source file; write it into a file of its own")
    return Path(str(module.__file__)).resolve()
