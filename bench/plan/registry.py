"""Names are files: find a method, model, data set or suite by its name, and load it."""

import fnmatch
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from bench.errors import BenchError, UnknownName, UsageError
from bench.plan.plugins import KINDS, Entry, Kind, function_in_file, in_file, installed, shipped

if TYPE_CHECKING:
    from bench.data.dataset import Dataset
    from bench.store.records import DataPlace
    from bench.store.trial_identity import TrialSpec
    from bench.training.method import Method
    from bench.training.network import Build

T = TypeVar("T")
FOLDER = "imagefolder:"  # before the path of a user's images, or before what stands for it


class Registry:
    """The shipped plug-ins, those of installed packages, and the files given with --plugin."""

    def __init__(self, plugins: Iterable[Path] = ()) -> None:
        self.plugins = tuple(plugins)
        self._methods: dict[str, type[Method]] = {}
        self._folders: dict[str, DataPlace] = {}
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
            if not any(e.path == path for e in own):
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
        if kind == "models" and ".py:" in name:
            return function_in_file(name)
        if kind == "models" and name.startswith("torchvision:"):
            return Entry(kind, name, "a network of torchvision", Path("torchvision"),
                         "builder", "bench.models._torchvision")  # fmt: skip
        if kind == "datasets" and name.startswith(FOLDER):
            place = self._folders.get(name)
            path = name.removeprefix(FOLDER) if place is None else place.path
            return Entry(kind, name, "your own images", Path(path), "ImageFolder",
                         "bench.datasets.folder")  # fmt: skip
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
                    _import(entry)

    def source_of(self, kind: Kind, name: str) -> str:
        """Return the hash of the code behind a name, as it was imported."""
        from bench.store import source_hash

        code = source_hash.of_module(self._load(kind, name)[0].__name__)
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
        module = _import(entry)
        source_hash.of_module(module.__name__)  # now, while file and code are the same
        return module, entry


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


def _import(entry: Entry) -> ModuleType:
    try:
        if entry.module:
            return importlib.import_module(entry.module)
        return _import_file(entry.path)
    except BenchError:
        raise
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
