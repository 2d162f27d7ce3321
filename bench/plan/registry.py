"""Names are files: find a method, model, data set or suite by its name, and load it."""

import copy
import fnmatch
import importlib
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from bench.data.ordinary_files import is_folder
from bench.errors import BenchError, UnknownName, UsageError
from bench.plan.plugins import KINDS, Entry, Kind, function_in_file, in_file, installed, shipped
from bench.plan.user_modules import import_files
from bench.store.json_values import JsonObject
from bench.store.source_files import SourceFiles, read_source_files

if TYPE_CHECKING:
    from bench.data.dataset import Dataset
    from bench.store.records import DataPlace
    from bench.store.trial_identity import TrialSpec
    from bench.training.method import Method
    from bench.training.network import Build

T = TypeVar("T")
FOLDER = "imagefolder:"  # before the path of a user's images, or before what stands for it
Role = Literal["method", "model", "dataset"]
KIND_OF: dict[Role, Kind] = {"method": "methods", "model": "models", "dataset": "datasets"}


@dataclass(frozen=True)
class Pinned:
    """A plug-in that is to be that of a trial, with its code."""

    entry: Entry
    files: SourceFiles


class Registry:
    """The shipped plug-ins, those of installed packages, and the files given with --plugin.

    A user's file is read once, with its neighbours, and what was read is what runs.

    Args:
        for_records: the files need define no plug-in: they may be those that records name.
    """

    def __init__(self, plugins: Iterable[Path] = (), for_records: bool = False) -> None:
        self.plugins = tuple(plugins)
        self._for_records = for_records
        self._methods: dict[str, type[Method]] = {}
        self._folders: dict[str, DataPlace] = {}
        self._read: dict[Path, SourceFiles] = {}
        self._pinned: dict[tuple[Kind, str], Pinned] = {}
        for path in self.plugins:
            if not path.is_file():
                raise UsageError(f"--plugin {path}: there is no such file")

    @cached_property
    def _entries(self) -> dict[Kind, dict[str, Entry]]:
        found: dict[Kind, dict[str, Entry]] = {kind: {} for kind in KINDS}
        ours = [e for kind in KINDS for e in shipped(kind)]
        foreign = [e for kind in KINDS[:3] for e in installed(kind)]
        own = [e for path in self.plugins for e in in_file(path)]
        for path in self.plugins:
            if not self._for_records and not any(e.path == path for e in own):
                raise UsageError(
                    f"--plugin {path} defines no method (a subclass of Method), model (@network) "
                    "or data set (a subclass of Dataset)"
                )
        for entry in (*ours, *foreign, *own):
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
        if (kind, name) in self._pinned:
            return self._pinned[kind, name].entry
        if kind == "models" and ".py:" in name:
            return function_in_file(name)
        if kind == "models" and name.startswith("torchvision:"):
            return Entry(kind, name, "a network of torchvision", Path("torchvision"),
                         "builder", "bench.models._torchvision")  # fmt: skip
        if kind == "datasets" and name.startswith(FOLDER):
            place = self._folders.get(name)
            path = _user_folder(name) if place is None else Path(place.path)
            named = f"{FOLDER}{path}" if place is None else name
            return Entry(kind, named, "your own images", path, "ImageFolder",
                         "bench.datasets.folder")  # fmt: skip
        entries = self.entries(kind)
        if name not in entries:
            raise UnknownName(kind[:-1].replace("dataset", "data set"), name, entries)
        return entries[name]

    def resolve(self, kind: Kind, patterns: Iterable[str]) -> list[str]:
        """Expand commas, repeats, wildcards and `all`; duplicates are folded, order is kept.

        Raises:
            UnknownName: with the nearest names there are.
            UsageError: nothing is named.
        """
        names: dict[str, None] = {}
        for pattern in (p for given in patterns for p in self._listed(kind, given)):
            if pattern == "all":
                matches = list(self.entries(kind))
            elif any(c in pattern for c in "*?[") and ":" not in pattern:
                matches = fnmatch.filter(self.entries(kind), pattern)
                if not matches:
                    raise UnknownName(kind[:-1], pattern, self.entries(kind))
            else:
                matches = [self.find(kind, pattern).name]
            names |= dict.fromkeys(matches)
        if not names:
            raise UsageError(f"No {kind} are named; try one of: {', '.join(self.entries(kind))}")
        return list(names)

    def _listed(self, kind: Kind, given: str) -> list[str]:
        """Return the items of a comma list; the path of an image folder may hold commas itself.

        The longest path that is there counts. Where none is, what follows belongs to it up to the next name.
        """
        pieces = given.split(",")
        items = []
        while pieces:
            length = 1
            if kind == "datasets" and pieces[0].strip().startswith(FOLDER):
                length = self._pieces_of_folder(pieces)
            item = ",".join(pieces[:length]).strip()
            items += [item] if item else []
            del pieces[:length]
        return items

    def _pieces_of_folder(self, pieces: list[str]) -> int:
        for length in range(len(pieces), 0, -1):
            if is_folder(_user_folder(",".join(pieces[:length]).strip())):
                return length
        known = self.entries("datasets")
        for length in range(1, len(pieces)):
            following = pieces[length].strip()
            if following in known or following.startswith(FOLDER) or following in ("", "all"):
                return length
        return len(pieces)

    def method(self, name: str) -> "type[Method]":
        if name not in self._methods:
            self._methods[name] = self._loaded_method(name)
        return self._methods[name]

    def _loaded_method(self, name: str) -> "type[Method]":
        from bench.training.method import Method

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
        if name.startswith("torchvision:"):
            build = build(name.removeprefix("torchvision:"))
        return build  # type: ignore[no-any-return]

    def dataset(self, name: str) -> "Dataset":
        from bench.data.dataset import Dataset
        from bench.data.tasks import Task

        module, entry = self._load("datasets", name)
        found = _checked(getattr(module, entry.attribute, None), Dataset, entry)  # type: ignore[type-abstract]
        place = self._folders.get(name)
        given = (entry.path,) if name.startswith(FOLDER) else ()
        dataset = found(*given, *([place.classes] if place is not None else []))
        if not isinstance(dataset.task, Task):
            raise UsageError(
                f"{entry.path}: the task of {name} is {dataset.task!r}, but must be an object of a "
                "subclass of Task, such as task = MyTask()"
            )
        return dataset

    def add_folder(self, name: str, place: "DataPlace") -> None:
        """Say where the images lie, or lay, that a specification names by their digest."""
        self._folders[name] = place

    def import_own(self) -> None:
        """Import what is not shipped and may define tasks: the user's files, and data sets of packages.

        Records name their tasks, but not where these are defined.
        """
        for entry in self.entries("datasets").values():
            if not entry.is_shipped:
                # A package that is broken here is none of the records' business, a file named is.
                with suppress(UsageError) if entry.module else nullcontext():
                    self._import(entry)

    def files_of(self, path: Path) -> SourceFiles:
        """Return a user's file with its neighbours, as they were when they were first read.

        Raises:
            UsageError: one of them is not Python.
        """
        whole = path.resolve()
        if whole not in self._read:
            self._read[whole] = read_source_files(whole)
        return self._read[whole]

    def files_read(self) -> list[SourceFiles]:
        """Return the user's files that were needed so far."""
        return list(self._read.values())

    def named_files(self) -> list[SourceFiles]:
        """Return the files that the user named: with --plugin, or in what is run."""
        for path in self.plugins:
            self.files_of(path)
        return self.files_read()

    def pinned_to(self, pinned: Iterable[Pinned]) -> Self:
        """Return a registry with the same plug-ins, but for some that are to be of certain code."""
        other = copy.copy(self)
        other._methods = {}
        other._pinned = {(each.entry.kind, each.entry.name): each for each in pinned}
        return other

    def own_code(self, **named: str) -> JsonObject:
        """Return the code of what is not shipped, by role: the hash of a file, or a package and version.

        Args:
            named: names by role, such as method="mine".
        """
        found: JsonObject = {}
        for role, kind in KIND_OF.items():
            entry = self.find(kind, named[role]) if role in named else None
            if entry is not None and entry.distribution:
                found[role] = entry.distribution
            elif entry is not None and not entry.module:
                found[role] = self._files_behind(entry).hash
        return found

    def source_of(self, kind: Kind, name: str) -> str:
        """Return the hash of the code behind a name, as it was imported."""
        from bench.store import source_hash

        module, entry = self._load(kind, name)
        if not entry.module:
            return self._files_behind(entry).hash
        code = source_hash.of_module(module.__name__)
        # The code of such a network is in another package.
        return f"{code}+{version('torchvision')}" if name.startswith("torchvision:") else code

    def sources_of(self, spec: "TrialSpec") -> dict[str, str]:
        """Return the hashes of the plug-ins that a trial runs."""
        return {
            "method": self.source_of("methods", spec.method),
            "model": self.source_of("models", spec.model),
            "dataset": self.source_of("datasets", spec.dataset),
        }

    def _load(self, kind: Kind, name: str) -> tuple[ModuleType, Entry]:
        from bench.store import source_hash

        entry = self.find(kind, name)
        module = self._import(entry)
        source_hash.of_module(module.__name__)  # now, while file and code are the same
        return module, entry

    def _import(self, entry: Entry) -> ModuleType:
        try:
            if entry.module:
                return importlib.import_module(entry.module)
            return import_files(self._files_behind(entry))
        except BenchError:
            raise
        except Exception as error:  # a plug-in may do anything while it is imported
            where = f"{entry.path} cannot be imported"
            raise UsageError(f"{where}: {type(error).__name__}: {error}") from error

    def _files_behind(self, entry: Entry) -> SourceFiles:
        pinned = self._pinned.get((entry.kind, entry.name))
        return pinned.files if pinned is not None else self.files_of(entry.path)


def _user_folder(name: str) -> Path:
    """Return the folder that `imagefolder:PATH` names; a shell expands no ~ after the colon.

    Raises:
        UsageError: no folder is named.
    """
    path = name.removeprefix(FOLDER)
    if not path:
        raise UsageError(f"{FOLDER} names no folder; write {FOLDER}PATH")
    if "\0" in path:
        raise UsageError(f"{name!r} holds a zero byte, which no path has")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{name}: there is no home folder {path.partition('/')[0]}") from error


def _checked(found: object, base: type[T], entry: Entry) -> type[T]:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{entry.path}: {entry.attribute} is not a {base.__name__}")
    return found


def _methods_in(module: ModuleType) -> "list[type[Method]]":
    from bench.training.method import Method

    return [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Method)
        and value.__module__ == module.__name__ and not value.__name__.startswith("_")
    ]  # fmt: skip
