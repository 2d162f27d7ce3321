"""Import a user's file with its neighbours as a package of its own, from the text that was hashed.

Two files may each have a neighbour `helper`: within a package every module has its own name, and
`import helper` in a file of the folder means the folder's. What stands in the folder on disk is not
looked at again: neither a file that is edited later nor its compiled form.
"""

import builtins
import hashlib
import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

from bench.errors import UsageError
from bench.store.source_files import SourceFiles, is_reserved, source_files_in

_PREFIX = "bench_user_"


def import_files(files: SourceFiles) -> ModuleType:
    """Import a user's file; once, as long as neither it nor a neighbour changes."""
    package = _package_of(files)
    return importlib.import_module(f"{package.name}.{package.module_of(files.main)}")


class _Package:
    """The files of one folder that were read at one time, and the modules made of them."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.texts: dict[str, bytes] = {}
        self._files: dict[str, str] = {}  # of modules that are files whose names are no identifiers

    def fits(self, texts: Mapping[str, bytes]) -> bool:
        """Return True where no file was changed since it was read."""
        return all(self.texts.get(name, text) == text for name, text in texts.items())

    def module_of(self, file: str) -> str:
        """Return the name of the module that a file of the folder is."""
        stem = file.removesuffix(".py")
        if not stem.isidentifier():
            stem = f"file_{hashlib.sha256(file.encode()).hexdigest()[:8]}"
            self._files[stem] = file
        return stem

    def spec(self, whole_name: str) -> ModuleSpec | None:
        """Return how to import a module of the package; None where there is none.

        Raises:
            UsageError: there is a file that its importer was not seen to import.
        """
        module = whole_name.partition(".")[2]
        if not module:
            return self._folder_spec(whole_name, "")
        place = module.replace(".", "/")
        for file in (self._files.get(module), f"{place}/__init__.py", f"{place}.py"):
            if file in self.texts:
                inside = [str(self.folder / place)] if file.endswith("/__init__.py") else None
                return spec_from_file_location(
                    whole_name, self.folder / file, loader=_TextLoader(self, file),
                    submodule_search_locations=inside,
                )  # fmt: skip
            if file is not None and (self.folder / file).is_file():
                raise UsageError(
                    f"{self.folder / file} is imported in a way that cannot be seen without running "
                    "it, so that its code would be no part of a trial's identity; write an import "
                    "statement"
                )
        is_folder = any(name.startswith(f"{place}/") for name in self.texts)
        return self._folder_spec(whole_name, place) if is_folder else None

    def _folder_spec(self, whole_name: str, place: str) -> ModuleSpec:
        """Return the specification of a folder without `__init__.py`."""
        spec = ModuleSpec(whole_name, None, is_package=True)
        spec.submodule_search_locations = [str(self.folder / place)]
        return spec

    def import_module(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> ModuleType:
        """Do what an import statement does in a file of the folder: neighbours come first."""
        top = name.partition(".")[0]
        if level or is_reserved(top) or self.spec(f"{self.name}.{top}") is None:
            return builtins.__import__(name, globals, locals, fromlist, level)
        whole = f"{self.name}.{name}"
        if fromlist:
            return builtins.__import__(whole, globals, locals, fromlist)
        importlib.import_module(whole)
        return sys.modules[f"{self.name}.{top}"]


class _TextLoader(Loader):
    """Makes a module of the text that was hashed."""

    def __init__(self, package: _Package, file: str) -> None:
        self._package, self._file = package, file

    def source_hash(self) -> str:
        """Return the hash of the module and of the neighbours that it imports."""
        texts = self._package.texts
        return source_files_in(self._package.folder, self._file, texts.get).hash

    def exec_module(self, module: ModuleType) -> None:
        path = self._package.folder / self._file
        code = compile(self._package.texts[self._file], str(path), "exec", dont_inherit=True)
        own = {**vars(builtins), "__import__": self._package.import_module}
        vars(module)["__builtins__"] = own
        exec(code, vars(module))


class _Finder(MetaPathFinder):
    """Finds the modules of the packages below, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package = _BY_NAME.get(fullname.partition(".")[0])
        return None if package is None else package.spec(fullname)


_BY_NAME: dict[str, _Package] = {}


def _package_of(files: SourceFiles) -> _Package:
    """Return the package that holds these files, or a new one if the folder's has other texts of them."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    base = _PREFIX + hashlib.sha256(str(files.folder).encode()).hexdigest()[:8]
    number = 0
    while True:
        name = f"{base}_{number}"
        package = _BY_NAME.setdefault(name, _Package(name, files.folder))
        if package.fits(files.texts):
            package.texts |= files.texts
            return package
        number += 1
