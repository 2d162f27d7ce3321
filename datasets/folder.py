"""A user's own images, one folder per class: the data set behind the name `imagefolder:PATH`."""

from collections.abc import Sequence
from pathlib import Path

from bench.api import (
    DataMissing,
    ImageFiles,
    Split,
    UsageError,
    stratified,
    with_validation,
)
from bench.datasets._folders import Photos, class_folders, images_in, labelled


class ImageFolder(Photos):
    """Images in PATH/train/<class>/ with PATH/val (or valid) and PATH/test, or in PATH/<class>/.

    Of `val` and `test`, one alone is the test set, and validation is a stratified tenth of `train`.
    Where there is neither, images are split 80/10/10, each class in proportion. All are 256x256.
    """

    def __init__(self, path: str | Path, names: Sequence[str] | None = None) -> None:
        """Find the classes in a folder.

        Args:
            names: of the classes, where they are known; the folder is then not looked at before `load`.

        Raises:
            DataMissing: there is no such folder.
            UsageError: its folders are not classes of images, or differ between the parts.
        """
        self.name = f"imagefolder:{path}"
        self.path = Path(path)
        self.names = self._classes(self._parts()) if names is None else list(names)
        self.classes = len(self.names)

    def load(self, root: Path) -> Split:
        read = {part: self._read(part) for part in self._parts()}
        if len(read) == 1:
            (everything,) = read.values()
            return self._cut(everything)
        held_out = [part for part in read if part != "train"]
        train, test = read["train"], read[held_out[-1]]
        if len(held_out) == 2:
            return Split(train, read[held_out[0]], test)
        if round(len(train) * 0.1) == 0:
            raise UsageError(
                f"{self.name}: a tenth of {len(train)} training images is none at all; add images, "
                "or a folder val beside test"
            )
        return with_validation(train, test, "imagefolder")

    def _parts(self) -> list[str]:
        """Return those of train, val or valid, and test that there are, in this order; "" without train."""
        if not self.path.is_dir():
            raise DataMissing(
                f"{self.name}: there is no folder {self.path}; give one that is there"
            )
        if not (self.path / "train").is_dir():
            return [""]
        if (self.path / "val").is_dir() and (self.path / "valid").is_dir():
            raise UsageError(f"{self.name} has both val and valid; remove or rename one of them")
        return [p for p in ("train", "val", "valid", "test") if (self.path / p).is_dir()]

    def _classes(self, parts: Sequence[str]) -> list[str]:
        first = class_folders(self.path / parts[0])
        where = str(self.path / parts[0])
        if len(first) < 2:
            raise UsageError(
                f"{self.name}: {where} has {len(first)} class folders, but at least 2 are needed; "
                "put the images of each class into a folder of its own"
            )
        for part in parts[1:]:
            differ = sorted(set(class_folders(self.path / part)) ^ set(first))
            if differ:
                raise UsageError(
                    f"{self.name}: the class folder {differ[0]!r} is in only one of "
                    f"{parts[0]} and {part}; give both the same classes"
                )
        for part in parts:
            for name in first:
                if not images_in(self.path / part / name):
                    raise UsageError(
                        f"{self.name}: {self.path / part / name} has no images; add some, or "
                        "remove this class"
                    )
        return first

    def _read(self, part: str) -> ImageFiles:
        prefix = f"{part}/" if part else ""
        return labelled(self.path, [prefix + name for name in self.names], self.shape)

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
