"""Image files that lie in one folder per class."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.api import Dataset, ImageFiles, Shape

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".tif", ".tiff")


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


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; hidden ones are left out."""
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def images_in(folder: Path) -> list[str]:
    """Return the image files anywhere below a folder, relative to it, sorted."""
    found = []
    for place, _, names in os.walk(folder):  # asks nothing of single files: there may be millions
        inner = Path(place).relative_to(folder).as_posix()
        prefix = "" if inner == "." else f"{inner}/"
        found += [
            prefix + name for name in names
            if name.lower().endswith(EXTENSIONS) and not name.startswith(".")
        ]  # fmt: skip
    return sorted(found)


def labelled(root: Path, folders: Sequence[str], shape: Shape) -> ImageFiles:
    """Return the files of `root/folder` for each folder; its position is the label."""
    paths: list[str] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = images_in(root / folder)
        paths += [f"{folder}/{name}" for name in found]
        labels += [label] * len(found)
    return ImageFiles(root, tuple(paths), torch.tensor(labels, dtype=torch.int64), shape)
