"""A user's file with every module under its folder that it imports: found without running any."""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

from bench.errors import UsageError
from bench.store import syntax_hash
from bench.system_errors import need_utf8

Look = Callable[[str], bytes | None]  # from a path below the folder to the file's content


@dataclass(frozen=True)
class SourceFiles:
    """A file and its neighbours, as they were read: what runs is what was hashed.

    Attributes:
        folder: where the file stands.
        main: the file's name.
        texts: the content of every file by its path below the folder, with slashes.
    """

    folder: Path
    main: str
    texts: Mapping[str, bytes]

    @cached_property
    def hash(self) -> str:
        """32 hex digits: the code of all files and their names; where the folder stands does not count."""
        digest = hashlib.sha256(f"{self.main}\0".encode())
        for name in sorted(self.texts):
            digest.update(f"{name}\0{syntax_hash.of_source(self.texts[name])}\0".encode())
        return digest.hexdigest()[:32]

    @property
    def path(self) -> Path:
        return self.folder / self.main


def read_source_files(path: Path) -> SourceFiles:
    """Read a file and the modules under its folder that it imports, inside functions too.

    Raises:
        UsageError: one of them is not Python, cannot be read, has a name that is not UTF-8, or is
            imported by a name that goes round the folder.
    """
    whole = path.resolve()
    need_utf8(whole)
    folder = whole.parent

    def look(name: str) -> bytes | None:
        file = folder / name
        try:
            return file.read_bytes() if file.is_file() else None
        except OSError as error:
            raise UsageError(f"{file} cannot be read ({error.strerror})") from error

    files = source_files_in(folder, whole.name, look)
    for name, text in files.texts.items():
        _refuse_detours(folder, name, files.texts, ast.parse(text))
    return files


def source_files_in(folder: Path, main: str, look: Look) -> SourceFiles:
    """Follow imports from file to file.

    Raises:
        UsageError: a file is missing or not Python.
    """
    texts: dict[str, bytes] = {}
    waiting = [main]
    while waiting:
        name = waiting.pop()
        if name in texts:
            continue
        text = look(name)
        if text is None:
            raise UsageError(f"there is no file {folder / name}")
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            raise UsageError(f"{folder / name} is not Python: {error}") from error
        texts[name] = text
        for imported in _imports(tree, name):
            waiting += files_of_module(imported, look)
    return SourceFiles(folder, main, texts)


def files_of_module(name: str, look: Look) -> list[str]:
    """Return the files under the folder that an import of this module runs, its packages' first.

    The folder comes before installed packages, as it does for a script, but not before Python's own
    modules and bench.

    Args:
        name: with a dot in front where the import is relative and can mean nothing else.
    """
    parts = name.lstrip(".").split(".")
    if not name.startswith(".") and is_reserved(parts[0]):
        return []
    found = []
    for depth in range(1, len(parts) + 1):
        place = "/".join(parts[:depth])
        for file in (f"{place}/__init__.py", f"{place}.py"):
            if look(file) is not None:
                found.append(file)
                break
    return found


def is_reserved(top: str) -> bool:
    """Return True for the names of Python's own modules and of bench, which no neighbour can take."""
    return top in sys.stdlib_module_names or top == "bench"


def _imports(tree: ast.Module, file: str) -> Iterator[str]:
    """Yield the modules that a file may import, by their names below the folder."""
    package = file.split("/")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [node.module] if node.module else []
            if node.level - 1 > len(package):
                continue  # beyond the folder: it cannot be imported at all
            if node.level:
                base = [*package[: len(package) - node.level + 1], *base]
            dot = "." if node.level else ""
            names = [".".join([*base, alias.name]) for alias in node.names if alias.name != "*"]
            yield from (dot + name for name in (".".join(base), *names) if name)
        elif isinstance(node, ast.Call):
            yield from _called_import(node, ("__import__",))


def _called_import(node: ast.Call, functions: tuple[str, ...]) -> Iterator[str]:
    """Yield the module that a call such as `import_module("helper")` imports, where it is written out."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else None
    called = node.func.id if isinstance(node.func, ast.Name) else called
    first = node.args[0] if node.args else None
    if called in functions and isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value


def _refuse_detours(folder: Path, file: str, texts: Mapping[str, bytes], tree: ast.Module) -> None:
    """Refuse imports that reach the folder in a way that leaves the neighbour's code out of the hash.

    Raises:
        UsageError: it imports a file of the folder by a call, or as part of an installed package.
    """

    def on_disk(name: str) -> bytes | None:
        return b"" if (folder / name).is_file() else None

    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    for name in (n for call in calls for n in _called_import(call, ("import_module",))):
        if name.startswith(".") or files_of_module(name, on_disk):
            raise UsageError(
                f"{folder / file} imports {name!r} by a call, where its code would be no part of a "
                f"trial's identity; write: import {name.lstrip('.')}"
            )
    for name in set(_imports(tree, file)):
        if not files_of_module(name, texts.get):
            detour = _outside_name_of(name, folder)
            if detour is not None:
                raise UsageError(
                    f"{folder / file} imports {name}, which is {detour.relative_to(folder)} of its own "
                    "folder under another name, so that its code would be no part of a trial's identity; "
                    "import a file of the folder by its name there, as in: import helper"
                )


def _outside_name_of(name: str, folder: Path) -> Path | None:
    """Return the file of the folder that an import from outside it reaches, if it reaches one."""
    top, *rest = name.split(".")
    spec = None if not top or is_reserved(top) else _spec_of(top)
    if spec is None:
        return None
    places = [Path(place) for place in spec.submodule_search_locations or ()]
    found = [Path(spec.origin)] if spec.origin and not places else []
    for place in places:
        inner = [place.joinpath(*rest[:depth]) for depth in range(len(rest) + 1)]
        found += [f for p in inner for f in (p / "__init__.py", p.with_name(f"{p.name}.py"))]
    whole = (file.resolve() for file in found if file.is_file())
    inside = [f for f in whole if f.is_relative_to(folder) and not _is_installed(f)]
    return inside[-1] if inside else None


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except (ImportError, ValueError):
        return None


def _is_installed(file: Path) -> bool:
    """Return True for files of packages, which may stand in an environment under the folder."""
    if {"site-packages", "dist-packages"} & set(file.parts):
        return True
    return file.is_relative_to(Path(sysconfig.get_path("stdlib")).resolve())
