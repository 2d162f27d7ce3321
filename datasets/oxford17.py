"""Oxford's 17 flowers: 80 images of each class, in three official splits (Nilsback & Zisserman 2006).

Wanted are the folder `jpg` of 17flowers.tgz and `datasplits.mat`, both in `17flowers`.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from bench.api import DataDamaged, DataMissing, ImageFiles, Split, size_of_file
from bench.datasets._folders import Photos

PER_CLASS = 80


class Oxford17(Photos):
    """Oxford's 17 flowers, official split 1: 680 / 340 / 340 photographs."""

    name = "oxford-17"
    classes = 17
    number: ClassVar[int] = 1

    def load(self, root: Path) -> Split:
        folder = root / "17flowers"
        return Split(*(self._part(folder, f"{key}{self.number}") for key in ("trn", "val", "tst")))

    def fetch(self, root: Path) -> None:
        raise DataMissing(
            f"{self.name} is not downloaded: get 17flowers.tgz and datasplits.mat from "
            "https://www.robots.ox.ac.uk/~vgg/data/flowers/17/ and unpack them into "
            f"{root / '17flowers'}"
        )

    def _part(self, folder: Path, key: str) -> ImageFiles:
        ids = _ids(folder / "datasplits.mat", key, self.classes * PER_CLASS)
        paths = tuple(f"jpg/image_{i:04d}.jpg" for i in ids.tolist())
        # Images are in the order of their classes.
        files = ImageFiles(folder, paths, (ids - 1) // PER_CLASS, self.shape)
        missing = files.first_missing()
        if missing is not None:
            if missing.exists():
                size_of_file(missing, "unpack 17flowers.tgz there again")
            raise DataMissing(
                f"{self.name} is not complete in {folder}: jpg/{missing.name} is missing; unpack "
                "17flowers.tgz there again"
            )
        return files


class Oxford17Split2(Oxford17):
    """Oxford's 17 flowers, official split 2."""

    name = "oxford-17-2"
    number = 2


class Oxford17Split3(Oxford17):
    """Oxford's 17 flowers, official split 3."""

    name = "oxford-17-3"
    number = 3


def _ids(path: Path, key: str, last: int) -> torch.Tensor:
    """Return the image numbers, from 1, of one part of one split."""
    from scipy.io import loadmat  # takes a moment to import

    if path.exists():
        size_of_file(path, "download it again")
    else:
        raise DataMissing(
            f"oxford-17 is not in {path.parent}: datasplits.mat is missing; bench data fetch "
            "oxford-17 says where to get it, --data-dir names another folder"
        )
    try:
        ids = torch.from_numpy(np.asarray(loadmat(path)[key]).astype(np.int64).reshape(-1))
    except Exception as error:  # a damaged file may fail in any way
        raise DataDamaged(
            f"{path} is not a MATLAB file with {key!r} ({type(error).__name__}); download it again"
        ) from error
    if len(ids) == 0 or int(ids.min()) < 1 or int(ids.max()) > last:
        raise DataDamaged(f"{path} must list images 1-{last} in {key!r}; download it again")
    return ids
