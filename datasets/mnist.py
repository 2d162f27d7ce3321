"""MNIST and its two drop-in successors, read as torchvision lays them out."""

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch

from bench.api import (
    AUTOENCODER,
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


class Mnist(Dataset):
    """MNIST: 70,000 handwritten digits, 28x28 grey (LeCun et al. 1998): 54,000 / 6,000 / 10,000."""

    name = "mnist"
    shape = (1, 28, 28)
    classes = 10
    mean = (0.1307,)
    std = (0.3081,)
    needs_files = True
    folder: ClassVar[str] = "MNIST"
    split_as: ClassVar[str] = ""  # another data set of the same images: no split may mix them

    def load(self, root: Path) -> Split:
        return Split(*self.load_parts(root))

    def load_parts(self, root: Path, names: Sequence[PartName] = PART_NAMES) -> tuple[Images, ...]:
        raw = root / self.folder / "raw"
        train = self._read(raw, "train")
        train, validation = train_and_validation(train, self.split_as or self.name)
        parts = {"train": train, "validation": validation}
        if "test" in names:
            parts["test"] = self._read(raw, "t10k")
        return tuple(parts[name] for name in names)

    def fetch(self, root: Path) -> None:
        from torchvision import datasets  # takes a second to import

        getattr(datasets, self.folder)(os.fspath(root), download=True)

    def _read(self, raw: Path, part: str) -> Images:
        pixels = self._idx(raw / f"{part}-images-idx3-ubyte", dimensions=3).unsqueeze(1)
        labels = self._idx(raw / f"{part}-labels-idx1-ubyte", dimensions=1).long()
        images = Images(pixels, labels)
        check_images(images, self.shape, self.classes, f"{self.name} in {raw}")
        return images

    def _idx(self, path: Path, dimensions: int) -> torch.Tensor:
        """Read an IDX file: magic number, sizes (big-endian), then bytes."""
        if not path.is_file():
            raise DataMissing(
                f"{self.name} is not in {path.parent.parent.parent}: {path.name} is missing; "
                f"bench data fetch {self.name} downloads it, --data-dir names another folder"
            )
        data = path.read_bytes()
        header = 4 + 4 * dimensions
        sizes = struct.unpack(f">{dimensions}I", data[4:header]) if len(data) >= header else ()
        expected = header + int(torch.tensor(sizes, dtype=torch.int64).prod()) if sizes else header
        is_idx = data[:4] == bytes([0, 0, 8, dimensions])
        if not is_idx or len(data) != expected or expected == header:
            raise DataDamaged(
                f"{path} is damaged: {len(data)} bytes where its header says {expected}; "
                f"delete it and run bench data fetch {self.name}"
            )
        return torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=header).view(*sizes)


class FashionMnist(Mnist):
    """Fashion-MNIST: 70,000 articles of clothing, 28x28 grey (Xiao et al. 2017)."""

    name = "fashion"
    mean = (0.2860,)
    std = (0.3530,)
    folder = "FashionMNIST"


class MnistPixels(Mnist):
    """MNIST as an autoencoder's task: pixels in 0-1, to be put out again: 54,000 / 6,000 / 10,000."""

    name = "mnist-autoencoder"
    split_as = "mnist"
    task = AUTOENCODER
    mean = (0.0,)
    std = (1.0,)


class FashionPixels(MnistPixels):
    """Fashion-MNIST as an autoencoder's task: pixels in 0-1, to be put out again."""

    name = "fashion-autoencoder"
    split_as = "fashion"
    folder = "FashionMNIST"


class KuzushijiMnist(Mnist):
    """Kuzushiji-MNIST: 70,000 cursive Japanese characters, 28x28 grey (Clanuwat et al. 2018)."""

    name = "kuzushiji"
    mean = (0.1918,)
    std = (0.3483,)
    folder = "KMNIST"
