"""MNIST and its two drop-in successors, read as torchvision lays them out."""

import gzip
import hashlib
import math
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
    size_of_file,
    train_and_validation,
)

# SHA-256 of the unpacked files. torchvision knows the MD5 of the packed ones alone; the contents of these
# were hashed from files whose own MD5s are the published ones (MNIST, Fashion-MNIST) or that were unpacked
# from archives with torchvision's MD5 (Kuzushiji-MNIST's test files).
_KNOWN = {
    "MNIST": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    "KMNIST": {
        "t10k-images-idx3-ubyte": "76fbd229ce87db80dd281af5e6670de4ad0e42fb30a7bd643972994c47c1f42e",
        "t10k-labels-idx1-ubyte": "a11dc742be8e781a40a92f53d6a4957e7b7d36df2faa097659131ebfd8fd60c6",
    },
}
_MOST_IMAGES = 1_000_000  # the largest relatives of MNIST have 814,255
_IMAGES = {"train": 60_000, "t10k": 10_000}


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

    def files(self, root: Path) -> list[Path]:
        kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
        raw = root / self.folder / "raw"
        return [raw / f"{part}-{kind}" for part in _IMAGES for kind in kinds]

    def verify(self, root: Path) -> str | None:
        """Read every file and compare its content with the official one's."""
        self.load(root)
        unknown = [path for path in self.files(root) if not self._is_compared(path)]
        if not unknown:
            return None
        names = " and ".join(path.name for path in unknown)
        return (
            f"{names}: no digest of the official content is known here, and {unknown[0].name}.gz, which "
            f"could be compared, is not beside it; bench data fetch {self.name} into another folder gets it"
        )

    def _is_compared(self, path: Path) -> bool:
        """Compare a file with a known digest, or with the packed file that it was unpacked from.

        Raises:
            DataDamaged: it is another one than the official one.
        """
        content = path.read_bytes()
        known = _KNOWN[self.folder].get(path.name)
        if known is None:
            known = self._digest_of_packed(path.with_name(f"{path.name}.gz"))
        has_all = int.from_bytes(content[4:8], "big") == _IMAGES[path.name.partition("-")[0]]
        if not has_all or known not in (None, hashlib.sha256(content).hexdigest()):
            raise DataDamaged(
                f"{path} is not the official file of {self.name}; delete it and run bench data fetch "
                f"{self.name}"
            )
        return known is not None

    def _digest_of_packed(self, path: Path) -> str | None:
        """Return the digest of what an official archive holds; None where there is no such file."""
        from torchvision import datasets

        if not path.is_file():
            return None
        data = path.read_bytes()
        expected = dict(getattr(datasets, self.folder).resources).get(path.name)
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != expected:
            return None
        return hashlib.sha256(gzip.decompress(data)).hexdigest()

    def _read(self, raw: Path, part: str) -> Images:
        pixels = self._idx(raw / f"{part}-images-idx3-ubyte", dimensions=3).unsqueeze(1)
        labels = self._idx(raw / f"{part}-labels-idx1-ubyte", dimensions=1).long()
        images = Images(pixels, labels)
        check_images(images, self.shape, self.classes, f"{self.name} in {raw}")
        return images

    def _idx(self, path: Path, dimensions: int) -> torch.Tensor:
        """Read an IDX file: magic number, sizes (big-endian), then bytes."""
        size = self._size(path)
        header = 4 + 4 * dimensions
        with path.open("rb") as file:
            start = file.read(header)
        counts = struct.unpack(f">{dimensions}I", start[4:]) if len(start) == header else ()
        expected = header + math.prod(counts) if counts else header
        is_idx = start[:4] == bytes([0, 0, 8, dimensions])
        if not is_idx:
            what = (
                "still packed by gzip" if start[:2] == b"\x1f\x8b" else "no IDX file of such bytes"
            )
            raise DataDamaged(
                f"{path} is damaged: it is {what}; delete it and run bench data fetch {self.name}"
            )
        if size != expected or expected == header:
            raise DataDamaged(
                f"{path} is damaged: {size} bytes where its header says {expected}; "
                f"delete it and run bench data fetch {self.name}"
            )
        if counts[0] > _MOST_IMAGES or counts[1:] not in ((), self.shape[1:]):
            raise DataDamaged(
                f"{path} holds {' x '.join(map(str, counts))} values, expected at most {_MOST_IMAGES} "
                f"images of {self.shape[1:]}; delete it and run bench data fetch {self.name}"
            )
        data = bytearray(path.read_bytes())
        return torch.frombuffer(data, dtype=torch.uint8, offset=header).view(*counts)

    def _size(self, path: Path) -> int:
        try:
            return size_of_file(path, f"delete it and run bench data fetch {self.name}")
        except DataMissing as error:
            packed = path.with_name(f"{path.name}.gz")
            how = (
                f"unpack {packed.name}, which is there"
                if packed.is_file()
                else f"bench data fetch {self.name} downloads it, --data-dir names another folder"
            )
            raise DataMissing(
                f"{self.name} is not in {path.parent.parent.parent}: {path.name} is missing; {how}"
            ) from error


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
