"""CIFAR-10 and CIFAR-100, read as torchvision lays them out.

The files are pickles, which may run any code when Python reads them. Here `_tables.py` does: nothing in them
is ever called or looked up.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from bench.api import (
    PART_NAMES,
    DataDamaged,
    DataMissing,
    Dataset,
    Images,
    PartName,
    Split,
    check_images,
    size_of_file,
    train_and_validation,
)
from bench.datasets._tables import Named, NotATable, read_table

PIXELS = 3 * 32 * 32
_MOST_BYTES = 2**30  # the largest official file has 155 MB


class Cifar10(Dataset):
    """CIFAR-10: 60,000 photographs, 32x32 colour (Krizhevsky 2009): 45,000 / 5,000 / 10,000."""

    name = "cifar10"
    shape = (3, 32, 32)
    classes = 10
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    needs_files = True
    augment = "flip+crop"
    folder: ClassVar[str] = "cifar-10-batches-py"
    label_key: ClassVar[bytes] = b"labels"
    train_files: ClassVar[tuple[str, ...]] = tuple(f"data_batch_{i}" for i in range(1, 6))
    test_file: ClassVar[str] = "test_batch"
    torchvision_name: ClassVar[str] = "CIFAR10"

    def load(self, root: Path) -> Split:
        return Split(*self.load_parts(root))

    def load_parts(self, root: Path, names: Sequence[PartName] = PART_NAMES) -> tuple[Images, ...]:
        files = [self._read(root, file) for file in self.train_files]
        everything = Images(torch.cat([f.x for f in files]), torch.cat([f.y for f in files]))
        train, validation = train_and_validation(everything, self.name)
        parts = {"train": train, "validation": validation}
        if "test" in names:
            parts["test"] = self._read(root, self.test_file)
        return tuple(parts[name] for name in names)

    def fetch(self, root: Path) -> None:
        from torchvision import datasets  # takes a second to import

        getattr(datasets, self.torchvision_name)(os.fspath(root), download=True)

    def files(self, root: Path) -> list[Path]:
        return [root / self.folder / file for file in (*self.train_files, self.test_file)]

    def verify(self, root: Path) -> None:
        """Read every file and compare its MD5 with the one that torchvision knows."""
        from torchvision import datasets

        self.load(root)
        known = getattr(datasets, self.torchvision_name)
        for file, expected in (*known.train_list, *known.test_list):
            path = root / self.folder / file
            if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != expected:
                raise DataDamaged(
                    f"{path} is not the official file (its MD5 is not {expected}); delete it and "
                    f"run bench data fetch {self.name}"
                )

    def _read(self, root: Path, file: str) -> Images:
        path = root / self.folder / file
        again = f"delete it and run bench data fetch {self.name}"
        try:
            size = size_of_file(path, again)
        except DataMissing as error:
            raise DataMissing(
                f"{self.name} is not in {root}: {self.folder}/{file} is missing; bench data fetch "
                f"{self.name} downloads it, --data-dir names another folder"
            ) from error
        if size > _MOST_BYTES:
            raise DataDamaged(f"{path} has {size:,} bytes, more than any CIFAR file; {again}")
        content = _contents(path)
        labels = content.get(self.label_key)
        pixels = _pixels(content.get(b"data"))
        if pixels is None or not isinstance(labels, list) or not _are_numbers(labels):
            raise DataDamaged(
                f"{path} has no table of images (rows of {PIXELS} bytes) and labels; {again}"
            )
        images = Images(pixels.view(-1, *self.shape), torch.tensor(labels, dtype=torch.int64))
        check_images(images, self.shape, self.classes, str(path))
        return images


class Cifar100(Cifar10):
    """CIFAR-100: 60,000 photographs of 100 classes, 32x32 colour: 45,000 / 5,000 / 10,000."""

    name = "cifar100"
    classes = 100
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)
    folder = "cifar-100-python"
    label_key = b"fine_labels"
    train_files = ("train",)
    test_file = "test"
    torchvision_name = "CIFAR100"


def _contents(path: Path) -> dict[bytes, Any]:
    """Return the dictionary in a file, keys as bytes."""
    try:
        return read_table(path.read_bytes())
    except NotATable as error:
        raise DataDamaged(
            f"{path} is not a CIFAR file: {error}; delete it and fetch the data set again"
        ) from error


def _pixels(array: Any) -> torch.Tensor | None:
    """Return the bytes of a uint8 array of rows of 3,072; None if it is anything else."""
    is_array = isinstance(array, Named) and array.name == "_reconstruct"
    state = array.state if is_array else None
    if not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, kind, is_fortran, data = state
    if not isinstance(kind, Named) or kind.name != "dtype":
        return None
    if not kind.arguments or kind.arguments[0] not in (b"u1", "u1", b"|u1", "|u1"):
        return None
    if not isinstance(data, bytes) or is_fortran or len(data) == 0:
        return None
    if not isinstance(shape, tuple) or shape != (len(data) // PIXELS, PIXELS):
        return None
    if len(data) != shape[0] * PIXELS:
        return None
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _are_numbers(labels: list[Any]) -> bool:
    return all(type(label) is int and 0 <= label < 2**31 for label in labels)
