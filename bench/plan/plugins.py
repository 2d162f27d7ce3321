"""List plug-ins from their source files, without running them, so that listing needs no torch."""

import ast
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Literal

from bench.errors import UnknownName, UsageError

Kind = Literal["methods", "models", "datasets", "suites"]
KINDS: tuple[Kind, ...] = ("methods", "models", "datasets", "suites")


@dataclass(frozen=True)
class Entry:
    """Something users can name.

    Attributes:
        attribute: the object within the file; empty for a suite.
        module: import name of a shipped file; empty for a user's own.
        distribution: the installed package that it is of, with its version: `theirs==1.2`.
        style: names of the colour and marker that a method's class declares; empty where it does not.
    """

    kind: Kind
    name: str
    summary: str
    path: Path
    attribute: str = ""
    module: str = ""
    distribution: str = ""
    style: tuple[str, str] = ("", "")

    @property
    def is_shipped(self) -> bool:
        return self.module.startswith("bench.")


def folder_of(kind: Kind) -> Path:
    """Return the folder that holds a kind of plug-in, in a checkout or installed."""
    spec = importlib.util.find_spec(f"bench.{kind}")
    assert spec is not None and spec.submodule_search_locations
    return Path(next(iter(spec.submodule_search_locations)))


def shipped(kind: Kind) -> list[Entry]:
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


def installed(kind: Kind) -> list[Entry]:
    """Return the plug-ins of installed packages: entry-point groups bench.methods, .models, .datasets."""
    entries = []
    for point in entry_points(group=f"bench.{kind}"):
        package = point.dist.name if point.dist is not None else point.module
        summary = f"from the package {package}"
        version = point.dist.version if point.dist is not None else "unknown"
        entries.append(
            Entry(
                kind, point.name, summary, Path(point.module), point.attr, point.module,
                f"{package}=={version}",
            )
        )  # fmt: skip
    return entries


def in_file(path: Path) -> list[Entry]:
    tree = _parse(path)
    return [entry for read in _READERS.values() for entry in read(path, tree)]


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise UsageError(f"{path} is not Python: {error}") from error


def _methods(path: Path, tree: ast.Module) -> list[Entry]:
    """Read methods: a file with a class that has `prune` or `score` is one, named as the file."""
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
    name, style = (
        path.stem.replace("_", "-"),
        (_constant(classes, "colour"), _constant(classes, "marker")),
    )
    return [Entry("methods", name, _first_line(tree), path, style=style)]


def _constant(classes: list[ast.ClassDef], name: str) -> str:
    """Return the text that a class variable is set to; empty where it is not."""
    for line in (line for node in classes for line in node.body):
        if not isinstance(line, ast.AnnAssign | ast.Assign):
            continue
        targets = line.targets if isinstance(line, ast.Assign) else [line.target]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return str(line.value.value) if isinstance(line.value, ast.Constant) else ""
    return ""


def declared_styles() -> dict[str, tuple[str, str]]:
    """Return the colour and marker that each shipped method declares, without importing any."""
    return {entry.name: entry.style for entry in shipped("methods") if all(entry.style)}


def _models(path: Path, tree: ast.Module) -> list[Entry]:
    """Read models: every function marked with @network is one."""
    return [
        Entry("models", node.name.replace("_", "-"), _first_line(node), path, node.name)
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any("network" in ast.unparse(d) for d in node.decorator_list)
    ]


def _datasets(path: Path, tree: ast.Module) -> list[Entry]:
    """Read data sets: every class with a literal `name` is one, but for tasks, which have names too."""
    entries = []
    tasks = _tasks(tree)
    for node in (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name not in tasks):
        for line in node.body:
            targets = line.targets if isinstance(line, ast.Assign) else []
            named = [t for t in targets if isinstance(t, ast.Name) and t.id == "name"]
            if named and isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant):
                name = str(line.value.value)
                entries.append(Entry("datasets", name, _first_line(node), path, node.name))
    return entries


def _tasks(tree: ast.Module) -> set[str]:
    """Return the names of `Task`, as the file imports it, and of the classes that derive from it."""
    imports = (n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom))
    names = {a.asname or a.name for each in imports for a in each.names if a.name == "Task"}
    for node in (n for n in tree.body if isinstance(n, ast.ClassDef)):
        if any(
            ast.unparse(base) in names or ast.unparse(base).endswith(".Task") for base in node.bases
        ):
            names.add(node.name)
    return names


_READERS: dict[Kind, Callable[[Path, ast.Module], list[Entry]]] = {
    "methods": _methods,
    "models": _models,
    "datasets": _datasets,
}


def _first_line(node: ast.Module | ast.FunctionDef | ast.ClassDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _toml_title(path: Path) -> str:
    """Return the first comment line of a suite, which says what it is for."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").strip()


def function_in_file(name: str) -> Entry:
    """Return the entry of `my_net.py:build`: a function of the user's own file."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"--models {name}: there is no file {file}")
    tree = _parse(path)
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if function not in functions:
        raise UnknownName(f"function in {file}", function, functions)
    return Entry("models", name, _first_line(functions[function]), path, function)
