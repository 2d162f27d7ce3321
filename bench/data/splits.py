"""Splits of a data set: fixed draws that keep each class in proportion."""

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from bench.apportion import shares_of
from bench.data.images import AnyImages, ImageFiles, Images
from bench.seeds import generator

AnyOf = TypeVar("AnyOf", Images, ImageFiles)
PartName = Literal["train", "validation", "test"]
PART_NAMES: tuple[PartName, ...] = ("train", "validation", "test")
VALIDATION_SHARE = 0.1
SMOKE_TRAIN_IMAGES = 512
SMOKE_OTHER_IMAGES = 256
_SPLIT_SEED = 20_260_401


@dataclass(frozen=True)
class Split:
    """The three disjoint parts of a data set."""

    train: AnyImages
    validation: AnyImages
    test: AnyImages


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
    label_of = y[shuffled]
    left = [shuffled[label_of == label] for label in range(classes)]
    parts = []
    for size in sizes:
        counts = shares_of(size, [len(members) for members in left])
        chosen = [members[:count] for members, count in zip(left, counts, strict=True)]
        left = [members[count:] for members, count in zip(left, counts, strict=True)]
        parts.append(torch.cat(chosen).sort().values)
    return parts


def from_each_class(y: Tensor, wanted: int, draws: int, *purpose: str) -> list[Tensor]:
    """Draw the same number of images of every class, several times; the rest come last.

    Args:
        y: labels (n,).
        wanted: images of a class in each draw; at most a third of the class.
        draws: how many parts of that size there are.
        purpose: what the draw is for; the same purpose always gives the same parts.

    Returns:
        `draws + 1` tensors of ascending positions.
    """
    shuffled = torch.randperm(len(y), generator=generator(_SPLIT_SEED, *purpose))
    label_of = y[shuffled]
    parts: list[list[Tensor]] = [[] for _ in range(draws + 1)]
    for label in torch.unique(y).tolist():
        members = shuffled[label_of == label]
        size = min(wanted, len(members) // 3)
        pieces = torch.split(members, [size] * draws + [len(members) - size * draws])
        for part, piece in zip(parts, pieces, strict=True):
            part.append(piece)
    return [torch.cat(part).sort().values for part in parts]


def with_validation(train: AnyOf, test: AnyOf, name: str) -> Split:
    """Set a stratified tenth of the training images aside for validation."""
    return Split(*train_and_validation(train, name), test)


def train_and_validation(train: AnyOf, name: str) -> tuple[AnyOf, AnyOf]:
    """Return the training images without a stratified tenth, and that tenth, both as copies."""
    n_validation = round(len(train) * VALIDATION_SHARE)
    # A regression's samples have no classes to keep in proportion.
    y = torch.zeros(len(train)).long() if train.y.is_floating_point() else train.y
    validation, rest = stratified(y, (n_validation, len(train) - n_validation), name)
    return train.take(rest), train.take(validation)


def shrink_for_smoke(split: Split) -> Split:
    """Keep a stratified handful of each part: enough to run, too little to mean anything."""
    return Split(*(shrink_part(getattr(split, part), part) for part in PART_NAMES))


def shrink_part(images: AnyImages, part: PartName) -> AnyImages:
    """Keep a stratified handful of one part."""
    size = min(SMOKE_TRAIN_IMAGES if part == "train" else SMOKE_OTHER_IMAGES, len(images))
    if size == 0:  # where only evaluation is possible
        return images
    if images.y.is_floating_point():  # no classes to keep in proportion
        return images.take(torch.arange(size))
    return images.take(stratified(images.y, (size,), "smoke", part)[0])
