"""Names are files: what methods, models, data sets and suites there are, and how to load one.

Listing reads source files without running them, so that it is fast and needs no torch.
"""

import ast
import fnmatch
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bench.errors import UnknownName, UsageError

if TYPE_CHECKING:
    from bench.data import Dataset
    from bench.method import Method
    from bench.network import Build

T = TypeVar("T")
Kind = Literal["methods", "models", "datasets", "suites"]
KINDS: tuple[Kind, ...] = ("methods", "models", "datasets", "suites")


@dataclass(frozen=True)
class Entry:
    """Something users can name.

    Attributes:
        attribute: the object within the file; empty for a suite.
        module: import name of a shipped file; empty for a user's own.
    """

    kind: Kind
    name: str
    summary: str
    path: Path
    attribute: str = ""
    module: str = ""

    @property
    def is_shipped(self) -> bool:
        return self.module.startswith("bench.")


class Registry:
    """The shipped plug-ins, those of installed packages, and the files given with --plugin."""

    def __init__(self, plugins: Iterable[Path] = ()) -> None:
        self.plugins = tuple(plugins)
        for path in self.plugins:
            if not path.is_file():
                raise UsageError(f"--plugin {path}: there is no such file")

    @cached_property
    def _entries(self) -> dict[Kind, dict[str, Entry]]:
        found: dict[Kind, dict[str, Entry]] = {kind: {} for kind in KINDS}
        shipped = [e for kind in KINDS for e in _shipped(kind)]
        foreign = [e for kind in KINDS[:3] for e in _installed(kind)]
        own = [e for path in self.plugins for e in _in_file(path)]
        for path in self.plugins:
            if not any(e.path == path for e in own):
                raise UsageError(
                    f"--plugin {path} defines no method (a subclass of Method), model (@network) "
                    "or data set (a subclass of Dataset)"
                )
        for entry in (*shipped, *foreign, *own):
            if entry.name in found[entry.kind]:
                other = found[entry.kind][entry.name].path
                raise UsageError(
                    f"{entry.path} and {other} both define {entry.kind[:-1]} {entry.name!r}; "
                    "rename one of them"
                )
            found[entry.kind][entry.name] = entry
        return found

    def entries(self, kind: Kind) -> dict[str, Entry]:
        """Return everything of a kind by name, without importing any of it."""
        return self._entries[kind]

    def find(self, kind: Kind, name: str) -> Entry:
        """Return one entry.

        Raises:
            UnknownName: with the nearest names there are.
        """
        if kind == "models" and ".py:" in name:
            return _file_function(name)
        entries = self.entries(kind)
        if name not in entries:
            raise UnknownName(kind[:-1].replace("dataset", "data set"), name, entries)
        return entries[name]

    def resolve(self, kind: Kind, patterns: Iterable[str]) -> list[str]:
        """Expand commas, repeats, wildcards and `all`; duplicates are folded, order is kept."""
        names: dict[str, None] = {}
        for pattern in (p.strip() for given in patterns for p in given.split(",")):
            if not pattern:
                continue
            if pattern == "all":
                matches = list(self.entries(kind))
            elif any(c in pattern for c in "*?["):
                matches = fnmatch.filter(self.entries(kind), pattern)
                if not matches:
                    raise UnknownName(kind[:-1], pattern, self.entries(kind))
            else:
                matches = [self.find(kind, pattern).name]
            names |= dict.fromkeys(matches)
        return list(names)

    def method(self, name: str) -> "type[Method]":
        from bench.method import Method

        module, entry = self._load("methods", name)
        if entry.attribute:
            return _checked(getattr(module, entry.attribute, None), Method, entry)  # type: ignore[type-abstract]
        classes = _methods_in(module)
        if len(classes) != 1:
            raise UsageError(f"{entry.path} must define one method; it defines {len(classes)}")
        return classes[0]

    def model(self, name: str) -> "Build":
        module, entry = self._load("models", name)
        build = getattr(module, entry.attribute, None)
        if not callable(build):
            raise UsageError(f"{entry.path} has no function {entry.attribute!r}")
        return build  # type: ignore[no-any-return]

    def dataset(self, name: str) -> "Dataset":
        from bench.data import Dataset

        module, entry = self._load("datasets", name)
        return _checked(getattr(module, entry.attribute, None), Dataset, entry)()  # type: ignore[type-abstract]

    def source_of(self, kind: Kind, name: str) -> str:
        """Return the hash of the code behind a name, as it was imported."""
        from bench import fingerprint

        return fingerprint.of_module(self._load(kind, name)[0].__name__)

    def _load(self, kind: Kind, name: str) -> tuple[ModuleType, Entry]:
        from bench import fingerprint

        entry = self.find(kind, name)
        module = _import(entry)
        fingerprint.of_module(module.__name__)  # now, while file and code are the same
        return module, entry


def _checked(found: Any, base: type[T], entry: Entry) -> type[T]:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{entry.path}: {entry.attribute} is not a {base.__name__}")
    return found


def _methods_in(module: ModuleType) -> "list[type[Method]]":
    from bench.method import Method

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method)
        and value.__module__ == module.__name__ and not value.__name__.startswith("_")
    ]  # fmt: skip


def _import(entry: Entry) -> ModuleType:
    try:
        if entry.module:
            return importlib.import_module(entry.module)
        return _import_file(entry.path)
    except Exception as error:  # a plug-in may do anything while it is imported
        where = f"{entry.path} cannot be imported"
        raise UsageError(f"{where}: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a user's file once, under a name of its own; its folder is importable meanwhile."""
    whole = path.resolve()
    name = f"bench_user_{whole.stem}_{hashlib.sha256(str(whole).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, whole)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(whole.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(whole.parent))
    return module


# -- reading files without running them -------------------------------------------------------


def folder_of(kind: Kind) -> Path:
    """Return the folder that holds a kind of plug-in, in a checkout or installed."""
    spec = importlib.util.find_spec(f"bench.{kind}")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def _shipped(kind: Kind) -> list[Entry]:
    folder = folder_of(kind)
    if kind == "suites":
        files = sorted(folder.glob("*.toml"))
        return [Entry(kind, f.stem, _toml_title(f), f) for f in files]
    entries = []
    for file in sorted(folder.glob("[!_]*.py")):
        for entry in _READERS[kind](file, _parse(file)):
            module = f"bench.{kind}.{file.stem}"
            entries.append(Entry(**{**vars(entry), "module": module}))
    return entries


def _installed(kind: Kind) -> list[Entry]:
    """Plug-ins of installed packages: entry-point groups bench.methods, .models, .datasets."""
    entries = []
    for point in entry_points(group=f"bench.{kind}"):
        package = point.dist.name if point.dist is not None else point.module
        summary = f"from the package {package}"
        entries.append(
            Entry(kind, point.name, summary, Path(point.module), point.attr, point.module)
        )
    return entries


def _in_file(path: Path) -> list[Entry]:
    tree = _parse(path)
    return [entry for read in _READERS.values() for entry in read(path, tree)]


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is not Python: {error}") from error


def _methods(path: Path, tree: ast.Module) -> list[Entry]:
    """A file with a class that has `prune` or `score` is a method, named as the file."""
    wanted = {"prune", "score"}
    classes = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and not node.name.startswith("_")
        and any(isinstance(n, ast.FunctionDef) and n.name in wanted for n in node.body)
    ]
    if not classes:
        return []
    return [Entry("methods", path.stem.replace("_", "-"), _first_line(tree), path)]


def _models(path: Path, tree: ast.Module) -> list[Entry]:
    """Every function marked with @network is a model."""
    return [
        Entry("models", node.name.replace("_", "-"), _first_line(node), path, node.name)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("network" in ast.unparse(d) for d in node.decorator_list)
    ]


def _datasets(path: Path, tree: ast.Module) -> list[Entry]:
    """Every class with a literal `name` is a data set."""
    entries = []
    for node in (n for n in tree.body if isinstance(n, ast.ClassDef)):
        for line in node.body:
            targets = line.targets if isinstance(line, ast.Assign) else []
            named = [t for t in targets if isinstance(t, ast.Name) and t.id == "name"]
            if named and isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
                name = str(line.value.value)
                entries.append(Entry("datasets", name, _first_line(node), path, node.name))
    return entries


_READERS: dict[Kind, Callable[[Path, ast.Module], list[Entry]]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
}


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _toml_title(path: Path) -> str:
    """The first comment line of a suite is what it is for."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip()


def _file_function(name: str) -> Entry:
    """`my_net.py:build`: a function of the user's own file."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--models {name}: there is no file {file}")
    tree = _parse(path)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if function not in functions:
        raise UnknownName(f"function in {file}", function, functions)
    return Entry("models", name, _first_line(functions[function]), path, function)
