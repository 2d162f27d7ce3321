"""Data sets as uint8 tensors that live on the device, split once per data set, never per seed.

A training image is a row of a tensor; a batch is one `index_select`. The test images are a part
of their own that no trial ever holds: only `bench.measure` is handed them.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bench.errors import DataDamaged
from bench.recipe import SMOKE_OTHER_IMAGES, SMOKE_TRAIN_IMAGES
from bench.seeds import generator

Shape = tuple[int, int, int]
VALIDATION_SHARE = 0.1
_SPLIT_SEED = 20_260_401


@dataclass(frozen=True)
class Images:
    """Images (n, channels, height, width) in uint8 and their labels (n,) in int64."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> "Images":
        return Images(self.x.index_select(0, index), self.y.index_select(0, index))


@dataclass(frozen=True)
class Split:
    """The three disjoint parts of a data set."""

    train: Images
    validation: Images
    test: Images


class Dataset(ABC):
    """A source of images. A subclass in `datasets/` is a data set; its `name` is what users type."""

    name: ClassVar[str]
    shape: ClassVar[Shape]
    classes: ClassVar[int]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    needs_files: ClassVar[bool] = False

    @abstractmethod
    def load(self, root: Path) -> Split:
        """Return the three parts, always the same ones.

        Raises:
            DataMissing: the files are not under `root`.
            DataDamaged: they are, but are truncated or not what they should be.
        """

    def fetch(self, root: Path) -> None:
        """Download what `load` needs, with progress and checksums; nothing by default."""
        return

    def verify(self, root: Path) -> None:
        """Check every file under `root`; raises what `load` raises."""
        self.load(root)


def stratified(y: Tensor, sizes: tuple[int, ...], *purpose: str) -> list[Tensor]:
    """Split positions into parts of the given sizes with each class in proportion.

    Args:
        y: labels (n,).
        sizes: how many images each part gets; they need not add up to n.
        purpose: what the draw is for; the same purpose always gives the same parts.

    Returns:
        One tensor of ascending positions per size.
    """
    shuffled = torch.randperm(len(y), generator=generator(_SPLIT_SEED, *purpose))
    classes = int(y.max()) + 1 if len(y) else 0
    left = [shuffled[y[shuffled] == label] for label in range(classes)]
    parts = []
    for size in sizes:
        counts = shared_out(size, [len(members) for members in left])
        chosen = [members[:count] for members, count in zip(left, counts, strict=True)]
        left = [members[count:] for members, count in zip(left, counts, strict=True)]
        parts.append(torch.cat(chosen).sort().values)
    return parts


def shared_out(total: int, sizes: list[int]) -> list[int]:
    """Share a total out in proportion to sizes, in whole numbers, largest remainders first."""
    whole = max(1, sum(sizes))
    parts = [total * size // whole for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: -(total * sizes[i] % whole))
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


def with_validation(train: Images, test: Images, name: str) -> Split:
    """Set a stratified tenth of the training images aside for validation."""
    n_validation = round(len(train) * VALIDATION_SHARE)
    validation, rest = stratified(train.y, (n_validation, len(train) - n_validation), name)
    return Split(train.take(rest), train.take(validation), test)


def check_images(images: Images, shape: Shape, classes: int, what: str) -> None:
    """Refuse images that are not what the data set declares.

    Raises:
        DataDamaged: wrong shape or type, or a label out of range.
    """
    if images.x.dtype != torch.uint8 or tuple(images.x.shape[1:]) != shape:
        raise DataDamaged(f"{what}: images are {tuple(images.x.shape[1:])}, expected {shape}")
    if len(images.x) != len(images.y) or len(images) == 0:
        raise DataDamaged(f"{what}: {len(images.x)} images but {len(images.y)} labels")
    if int(images.y.min()) < 0 or int(images.y.max()) >= classes:
        raise DataDamaged(f"{what}: a label lies outside 0-{classes - 1}")


def shrink_for_smoke(split: Split) -> Split:
    """Keep a stratified handful of each part: enough to run, too little to mean anything."""

    def few(images: Images, size: int, part: str) -> Images:
        return images.take(stratified(images.y, (min(size, len(images)),), "smoke", part)[0])

    return Split(
        few(split.train, SMOKE_TRAIN_IMAGES, "train"),
        few(split.validation, SMOKE_OTHER_IMAGES, "validation"),
        few(split.test, SMOKE_OTHER_IMAGES, "test"),
    )


@dataclass(frozen=True)
class Part:
    """One part of a data set on the device, ready to be cut into normalised float batches."""

    images: Images
    mean: Tensor
    std: Tensor
    size: int | None = None
    channels_last: bool = False

    @classmethod
    def of(cls, images: Images, dataset: Dataset, size: int | None, device: torch.device) -> "Part":
        """Move images to the device; `size` is the height and width the network wants."""
        moved = Images(images.x.contiguous().to(device), images.y.to(device))
        channels = dataset.shape[0]

        def per_channel(values: tuple[float, ...]) -> Tensor:
            return (torch.tensor(values) * 255).view(1, channels, 1, 1).to(device)

        wanted = None if dataset.shape[1:] == (size, size) else size
        return cls(moved, per_channel(dataset.mean), per_channel(dataset.std), wanted)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pixels, labels and normalisation: the part's identity in a phase's key."""
        sha = hashlib.sha256()
        for tensor in (self.images.x, self.images.y, self.mean, self.std):
            sha.update(tensor.cpu().numpy().tobytes())
        sha.update(repr((tuple(self.images.x.shape), self.size, self.channels_last)).encode())
        return sha.hexdigest()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised images (b, channels, height, width) and labels (b,)."""
        x = self.images.x.index_select(0, index).float()
        x = x.sub_(self.mean).div_(self.std)
        if self.size is not None:
            x = interpolate(x, size=(self.size, self.size), mode="bilinear", antialias=True)
        if self.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, self.images.y.index_select(0, index)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut the whole part, or the positions in `order`, into batches; the last may be short."""
        device = self.images.y.device
        index = torch.arange(len(self), device=device) if order is None else order.to(device)
        for chunk in torch.split(index, size):
            yield self.batch(chunk)

    def in_layout(self, channels_last: bool) -> "Part":
        """Return the same part with batches in the memory layout the network wants."""
        return replace(self, channels_last=channels_last)
