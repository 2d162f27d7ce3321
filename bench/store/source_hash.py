"""What a piece of code *is*: a hash of its parsed source, taken once, when it is imported.

Comments, docstrings and layout do not count. The neighbours a plug-in imports do. `inspect.getsource`
would read the file at the time of the call: a file edited during a run would count as new code
while the old code still runs, so every hash is taken at import and kept.
"""

import ast
import hashlib
import sys
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

_BY_MODULE: dict[str, str] = {}
# What decides a training's numbers: whole rooms, so that no file can be forgotten.
_DECIDING_ROOMS = ("data", "graph", "pruning", "training")
_DECIDING_FILES = ("seeds.py",)


def of_source(text: str) -> str:
    """Return the hash of a module's code without its comments and docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def of_module(name: str) -> str:
    """Return the hash of an imported module and of the neighbours it imports.

    Raises:
        LookupError: the module has no source file (it was typed into a prompt, say).
    """
    if name not in _BY_MODULE:
        parts = sorted(_hash_file(path) for path in _files_of(name))
        _BY_MODULE[name] = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    return _BY_MODULE[name]


def of_object(thing: object) -> str:
    """Return the hash of the module that defines a class or function."""
    return of_module(thing.__module__)


def of_core() -> str:
    """Return the hash of everything in the harness that decides a training's numbers."""
    if "core" not in _BY_MODULE:
        root = Path(__file__).resolve().parents[1]
        rooms = [f for room in _DECIDING_ROOMS for f in sorted((root / room).rglob("*.py"))]
        parts = [_hash_file(f) for f in (*rooms, *(root / name for name in _DECIDING_FILES))]
        _BY_MODULE["core"] = hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
    return _BY_MODULE["core"]


def _hash_file(path: Path) -> str:
    return of_source(path.read_text(encoding="utf-8"))


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
