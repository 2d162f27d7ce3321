"""Image files that lie in one folder per class."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from bench.api import (
    DataDamaged,
    DataMissing,
    Dataset,
    ImageFiles,
    Shape,
    is_folder,
    printable,
    size_of_file,
)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff")
# Folders of systems and programs: of copies, of thumbnails, of what was deleted.
_OF_SYSTEMS = {
    "__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found",
    "__pycache__",
}  # fmt: skip


class Photos(Dataset):
    """Photographs in files: ImageNet's statistics and customs, unless a set says otherwise.

    Decoded to a square of 256 pixels, of which evaluation sees the middle 224.
    """

    shape = (3, 256, 256)
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    needs_files = True
    augment = "flip+resized-crop"
    crop_share = 0.875


class FolderWalk:
    """The folders and images of a data set; links to folders are followed, and no folder is met twice.

    Hidden folders, and those that systems and programs make, are left out.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._met: dict[tuple[int, int], Path] = {}

    def folders_in(self, folder: Path) -> list[str]:
        """Return the names of the folders in a folder, sorted.

        Raises:
            DataMissing, DataDamaged: it cannot be looked into, or a link in it leads nowhere.
        """
        found = []
        for entry in _seen(folder):
            _need_target(entry)
            if _is_folder(entry):
                found.append(entry.name)
        return sorted(found)

    def images_in(self, folder: Path) -> list[str]:
        """Return the image files anywhere below a folder, relative to it, sorted.

        Raises:
            DataMissing, DataDamaged: a folder cannot be looked into, is met a second time, or a link
                leads nowhere or back; a file that is called as images are is none.
        """
        found: list[str] = []
        left = [(folder, "")] if is_folder(folder) else []
        while left:
            place, prefix = left.pop()
            self._meet(place)
            # Asks the disk nothing of single files: there may be millions.
            for entry in _seen(place):
                if _is_folder(entry):
                    left.append((place / entry.name, f"{prefix}{entry.name}/"))
                elif entry.name.lower().endswith(EXTENSIONS):
                    if not _is_file(entry):
                        size_of_file(Path(entry.path), "remove it, or put the image there")
                    found.append(prefix + entry.name)
                elif "." not in entry.name:
                    _need_target(entry)  # it may have led to a folder
        return sorted(found)

    def _meet(self, folder: Path) -> None:
        facts = folder.stat()
        before = self._met.setdefault((facts.st_dev, facts.st_ino), folder)
        target = Path(os.path.realpath(folder))
        if Path(os.path.realpath(self.root)).is_relative_to(target):
            raise DataDamaged(
                f"{printable(folder)} is a link that leads back to {printable(target)}, in which it lies "
                "itself; remove it"
            )
        if before != folder:
            raise DataDamaged(
                f"{printable(folder)} is {printable(before)} once more, through a link, and its images would "
                "count twice; remove the link"
            )


def labelled(
    root: Path, folders: Sequence[str], shape: Shape, walk: FolderWalk | None = None
) -> ImageFiles:
    """Return the files of `root/folder` for each folder; its position is the label.

    Args:
        walk: by which other parts were read: none of their folders may come again.
    """
    walk = walk or FolderWalk(root)
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = walk.images_in(root / folder)
        paths += [f"{folder}/{name}" for name in found]
        labels += [label] * len(found)
    return ImageFiles(root, tuple(paths), torch.tensor(labels, dtype=torch.int64), shape)


def _seen(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Yield what lies in a folder and is not hidden."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.name.casefold() not in _OF_SYSTEMS:
                    yield entry
    except OSError as error:
        raise DataDamaged(
            f"the folder {printable(folder)} cannot be looked into ({error.strerror})"
        ) from error


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    return is_folder(Path(entry.path)) if entry.is_symlink() else entry.is_dir()


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()  # noqa: PTH113


def _need_target(entry: "os.DirEntry[str]") -> None:
    """Refuse a link that leads nowhere: what it led to may have been images."""
    if not entry.is_symlink():
        return
    path = Path(entry.path)
    try:
        path.stat()
    except FileNotFoundError as error:
        raise DataMissing(
            f"{printable(path)} is a link to {printable(path.readlink())}, where nothing is; remove it, "
            "or put the images there"
        ) from error
    except OSError as error:
        raise DataDamaged(
            f"{printable(path)} is a link that cannot be followed ({error.strerror}); remove it"
        ) from error
