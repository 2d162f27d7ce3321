"""A user's own images, one folder per class: the data set behind the name `imagefolder:PATH`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.api import (
    DataMissing,
    ImageFiles,
    Split,
    UsageError,
    is_folder,
    printable,
    stratified,
    with_validation,
)
from bench.datasets._folders import FolderWalk, Photos, labelled
from bench.datasets._parts import is_called_a_part, part_called

_PARTS = ("train", "val", "test")
_WHOLE = {"train": ""}  # where there are no folders of parts


class ImageFolder(Photos):
    """Images in PATH/train/<class>/ with PATH/val and PATH/test, or in PATH/<class>/.

    Of `val` and `test`, one alone is the test set, and validation is a stratified tenth of `train`.
    Where there is neither, images are split 80/10/10, each class in proportion. All are 256x256.
    Other names for the parts, such as Training, validation or test_set, are understood.
    """

    def __init__(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        """Find the classes in a folder.

        Args:
            names: of the classes, where they are known; the folder is then not looked at before `load`.

        Raises:
            DataMissing: there is no such folder, or a link in it leads nowhere.
            DataDamaged: what is called as images are is none; a folder is met twice through a link.
            UsageError: its folders are not classes of images, or differ between the parts.
        """
        self.name = f"imagefolder:{printable(path)}"
        self.path = Path(path)
        self.names = self._classes(self._parts()) if names is None else list(names)
        self.classes = len(self.names)

    def load(self, root: Path) -> Split:
        walk = FolderWalk(self.path)
        read = {part: self._read(folder, walk) for part, folder in self._parts().items()}
        if len(read) == 1:
            return self._cut(read["train"])
        *others, test = (read[part] for part in _PARTS if part in read)
        train = others[0]
        if len(read) == 3:
            return Split(train, others[1], test)
        if round(len(train) * 0.1) == 0:
            raise UsageError(
                f"{self.name}: a tenth of {len(train)} training images is none at all; add images, "
                "or a folder val beside test"
            )
        return with_validation(train, test, "imagefolder")

    def _parts(self) -> Mapping[str, str]:
        """Return the folder of each part that there is; "" for training where no folder is one's."""
        if not is_folder(self.path):
            raise DataMissing(
                f"{self.name}: there is no folder {printable(self.path)}; give one that is there"
            )
        found: dict[str, str] = {}
        called = [f for f in FolderWalk(self.path).folders_in(self.path) if is_called_a_part(f)]
        for folder in called:
            part = part_called(folder)
            if part is None:
                raise UsageError(
                    f"{self.name}: {printable(folder)} may be for validation or for the test; call it "
                    "val or test, or otherwise if it is a class"
                )
            if part in found:
                raise UsageError(
                    f"{self.name} has both {printable(found[part])} and {printable(folder)} for the part "
                    f"{part}; remove or rename one of them"
                )
            found[part] = folder
        if called and "train" not in found:
            raise UsageError(
                f"{self.name}: {printable(called[0])} is called as a part is, but there is "
                "no folder train beside it; add one, or call it otherwise if it is a class"
            )
        return {part: found[part] for part in _PARTS if part in found} or _WHOLE

    def _classes(self, parts: Mapping[str, str]) -> list[str]:
        walk = FolderWalk(self.path)
        first = walk.folders_in(self.path / parts["train"])
        if len(first) < 2:
            raise UsageError(
                f"{self.name}: {printable(self.path / parts['train'])} has {len(first)} class folders, but "
                "at least 2 are needed; put the images of each class into a folder of its own"
                f"{', or call it otherwise if it is a class' if parts != _WHOLE else ''}"
            )
        for folder in list(parts.values())[1:]:
            differ = sorted(set(walk.folders_in(self.path / folder)) ^ set(first))
            if differ:
                raise UsageError(
                    f"{self.name}: the class folder {differ[0]!r} is in only one of "
                    f"{parts['train']} and {folder}; give both the same classes"
                )
        if parts != _WHOLE:
            self._refuse_unknown_part(walk, parts, first)
        for folder in parts.values():
            for name in first:
                self._check_class(walk, self.path / folder / name)
        return first

    def _refuse_unknown_part(
        self, walk: FolderWalk, parts: Mapping[str, str], names: Sequence[str]
    ) -> None:
        """Refuse a folder of the same classes whose name says no part: it would be left out unseen."""
        for folder in sorted(set(walk.folders_in(self.path)) - set(parts.values())):
            common = sorted(set(walk.folders_in(self.path / folder)) & set(names))
            if common:
                raise UsageError(
                    f"{self.name}: {printable(folder)} holds the class {common[0]!r} too, but its "
                    "name is none of train, val and test; call it one of them, or move it elsewhere"
                )

    def _check_class(self, walk: FolderWalk, folder: Path) -> None:
        parts = [name for name in walk.folders_in(folder) if is_called_a_part(name)]
        if parts:
            raise UsageError(
                f"{self.name}: {printable(folder)} holds a folder {printable(parts[0])}, but the folders "
                "of parts must hold those of classes; turn them round, or call it otherwise"
            )
        if not walk.images_in(folder):
            raise UsageError(
                f"{self.name}: {printable(folder)} has no images; add some, or remove this class"
            )

    def _read(self, part: str, walk: FolderWalk) -> ImageFiles:
        prefix = f"{part}/" if part else ""
        return labelled(self.path, [prefix + name for name in self.names], self.shape, walk)

    def _cut(self, everything: ImageFiles) -> Split:
        n = len(everything)
        tenth = round(n * 0.1)
        if tenth == 0:
            raise UsageError(
                f"{self.name}: {n} images cannot be split into 80/10/10 per cent; add images, or "
                "folders train, val and test"
            )
        sizes = (n - 2 * tenth, tenth, tenth)
        return Split(*(everything.take(i) for i in stratified(everything.y, sizes, "imagefolder")))
