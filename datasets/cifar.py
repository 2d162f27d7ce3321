"""CIFAR-10 and CIFAR-100, read as torchvision lays them out.

The files are pickles, which may run any code when they are read. Here nothing in them is ever
called or looked up: what they may name is replaced by harmless stand-ins, all else is refused.
"""

import hashlib
import os
import pickle
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
    train_and_validation,
)

PIXELS = 3 * 32 * 32


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
        if not path.is_file():
            raise DataMissing(
                f"{self.name} is not in {root}: {self.folder}/{file} is missing; bench data fetch "
                f"{self.name} downloads it, --data-dir names another folder"
            )
        content = _contents(path)
        labels = content.get(self.label_key)
        pixels = _pixels(content.get(b"data"))
        if pixels is None or not isinstance(labels, list) or not _are_numbers(labels):
            raise DataDamaged(
                f"{path} has no table of images (rows of {PIXELS} bytes) and labels; delete it and "
                f"run bench data fetch {self.name}"
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


class _Type:
    """Stands in for `numpy.dtype`."""

    def __init__(self, *arguments: Any) -> None:
        self.name = arguments[0] if arguments else None

    def __setstate__(self, state: Any) -> None:
        return


class _Array:
    """Stands in for `numpy.ndarray`: keeps what the file says of it."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        return

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _latin_1(text: Any, encoding: Any) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes into old pickles."""
    return bytes(str(text), "latin-1")


def _new_array(*arguments: Any) -> _Array:
    return _Array()


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin_1,
}


class _Reader(pickle.Unpickler):
    """Knows plain containers, numbers, strings and the stand-ins."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image table needs")
        return _STAND_INS[module, name]


def _contents(path: Path) -> dict[bytes, Any]:
    """Return the dictionary in a file, keys as bytes."""
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError("it holds no dictionary")
    except Exception as error:  # a damaged pickle may fail in any way
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataDamaged(
            f"{path} is not a CIFAR file: {reason}; delete it and fetch the data set again"
        ) from error
    return {k.encode() if isinstance(k, str) else k: v for k, v in content.items()}


def _pixels(array: Any) -> torch.Tensor | None:
    """Return the bytes of a uint8 array of rows of 3,072; None if it is anything else."""
    state = array.state if isinstance(array, _Array) else None
    if not isinstance(state, tuple) or len(state) != 5:
        return None
    _, shape, kind, is_fortran, data = state
    if not isinstance(kind, _Type) or kind.name not in (b"u1", "u1", b"|u1", "|u1"):
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
