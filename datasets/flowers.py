"""Oxford's 102 flowers, read as torchvision lays them out (Nilsback & Zisserman 2008)."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.api import DataDamaged, DataMissing, ImageFiles, Split, from_each_class, size_of_file
from bench.datasets._folders import Photos

MOST_BYTES = 2**24  # of a list of images; the official ones have some thousands
PARTS = {"train": "trnid", "val": "valid", "test": "tstid"}


class Flowers(Photos):
    """Flowers-102, 10 validation and 10 test images of each class, the rest trains (EDropout).

    The three official parts, 8,189 images of 40-258 a class, are pooled first; the draw is fixed.
    Where a class has fewer than 30 images, a third of them are taken instead of 10. Only the images
    that `flowers-102/available.json` lists count where there is such a file.
    """

    name = "flowers"
    classes = 102

    def load(self, root: Path) -> Split:
        train, validation, test = self._official(root)
        everything = train.together(validation).together(test)
        drawn = from_each_class(everything.y, 10, 2, self.name)
        validation, test, train = (everything.take(index) for index in drawn)
        return Split(train, validation, test)

    def fetch(self, root: Path) -> None:
        from torchvision import datasets  # takes a second to import

        datasets.Flowers102(os.fspath(root), download=True)

    def _official(self, root: Path) -> list[ImageFiles]:
        """Return the official training, validation and test images that are there."""
        folder = root / "flowers-102"
        labels = _numbers(folder / "imagelabels.mat", "labels")
        positions = _available(folder)
        parts = []
        for part, key in PARTS.items():
            ids = _numbers(folder / "setid.mat", key)
            if int(ids.min()) < 1 or int(ids.max()) > len(labels):
                raise DataDamaged(
                    f"{folder / 'setid.mat'} names image {int(ids.max())}, but imagelabels.mat has "
                    f"{len(labels)} labels; run bench data fetch flowers"
                )
            if positions is not None:
                ids = ids[_chosen(positions, part, len(ids), folder)]
            y = labels[ids - 1] - 1
            if int(y.min()) < 0 or int(y.max()) >= self.classes:
                raise DataDamaged(
                    f"{folder / 'imagelabels.mat'} has a label outside 1-{self.classes}; "
                    "run bench data fetch flowers"
                )
            paths = tuple(f"jpg/image_{i:05d}.jpg" for i in ids.tolist())
            files = ImageFiles(folder, paths, y, self.shape)
            missing = files.first_missing()
            if missing is not None:
                if missing.exists():
                    size_of_file(missing, "delete it and run bench data fetch flowers")
                raise DataMissing(
                    f"{self.name} is not complete in {folder}: {missing.name} is missing; "
                    "bench data fetch flowers downloads all of it"
                )
            parts.append(files)
        return parts


class FlowersOfficial(Flowers):
    """Flowers-102 in its official parts: 1,020 / 1,020 / 6,149, 10 training images a class."""

    name = "flowers-official"

    def load(self, root: Path) -> Split:
        return Split(*self._official(root))


def _numbers(path: Path, key: str) -> torch.Tensor:
    """Return a vector of whole numbers from a MATLAB file."""
    from scipy.io import loadmat  # takes a moment to import

    if not path.exists():
        raise DataMissing(
            f"flowers is not in {path.parent}: {path.name} is missing; bench data fetch flowers "
            "downloads it, --data-dir names another folder"
        )
    if size_of_file(path, "run bench data fetch flowers") > MOST_BYTES:
        raise DataDamaged(f"{path} is too large to be a list; run bench data fetch flowers")
    try:
        values = np.asarray(loadmat(path)[key]).astype(np.int64).reshape(-1)
    except Exception as error:  # a damaged file may fail in any way
        raise DataDamaged(
            f"{path} is not a MATLAB file with {key!r} ({type(error).__name__}); delete it and run "
            "bench data fetch flowers"
        ) from error
    if len(values) == 0:
        raise DataDamaged(f"{path} has no {key!r}; delete it and run bench data fetch flowers")
    return torch.from_numpy(values)


def _available(folder: Path) -> Any:
    """Return what `available.json` says is here, by part; None: everything."""
    path = folder / "available.json"
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))["indices_into_official_split"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataDamaged(
            f"{path} has no indices_into_official_split; delete it if all images are there"
        ) from error


def _chosen(positions: Any, part: str, n: int, folder: Path) -> torch.Tensor:
    chosen = positions.get(part) if isinstance(positions, dict) else None
    is_list = isinstance(chosen, list) and bool(chosen)
    if not is_list or any(type(i) is not int or not 0 <= i < n for i in chosen or ()):
        raise DataDamaged(
            f"{folder / 'available.json'} must list positions 0-{n - 1} of the part {part!r}; "
            "delete it if all images are there"
        )
    return torch.tensor(chosen)
