"""Our resident data path against torchvision, PIL and a DataLoader: one pass over shuffled images.

    python benchmarks/data_path.py --data data

Both sides end in the same thing: normalised float32 batches. Without --data the images are seeded
random pixels of the same shapes, which cost both sides the same as real ones.
"""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import Variant, repeated
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import CIFAR10, FashionMNIST

from bench.api import Dataset, Images, Split
from bench.data.augment import Augment
from bench.data.batches import Part

WORKERS = (0, 2)
SEED = 0


@dataclass(frozen=True)
class Task:
    """One kind of images, what is done to them, and how much faster we should be."""

    title: str
    kind: type[CIFAR10] | type[FashionMNIST]
    shape: tuple[int, int, int]
    augment: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bound: float


TASKS = (
    Task("CIFAR-10-like, flip and crop", CIFAR10, (3, 32, 32), "flip+crop",
         (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), 15),
    Task("Fashion-MNIST-like, no augmentation", FashionMNIST, (1, 28, 28), "none",
         (0.2860,), (0.3530,), 40),
)  # fmt: skip


def torchvision_set(task: Task, root: Path | None, n: int) -> Any:
    """Return torchvision's own data set, from files or filled with random pixels."""
    if root is not None:
        images: Any = task.kind(root, train=True, download=False)
    else:
        draw = np.random.default_rng(SEED)
        channels, height, width = task.shape
        shape = (n, height, width) if channels == 1 else (n, height, width, channels)
        pixels = draw.integers(0, 256, shape, dtype=np.uint8)
        labels = draw.integers(0, 10, n)
        # Without its constructor, which wants files; `__getitem__` is torchvision's own.
        kind: Any = task.kind
        images = kind.__new__(kind)
        images.data = torch.from_numpy(pixels) if channels == 1 else pixels
        images.targets = torch.from_numpy(labels) if channels == 1 else labels.tolist()
        images.target_transform = None
    images.transform = _transform(task)
    return images


def _transform(task: Task) -> Any:
    steps: list[Any] = [transforms.ToTensor(), transforms.Normalize(task.mean, task.std)]
    if task.augment != "none":
        crop = transforms.RandomCrop(task.shape[1], padding=4)
        steps = [transforms.RandomHorizontalFlip(), crop, *steps]
    return transforms.Compose(steps)


def our_part(task: Task, images: Any, n: int) -> Part:
    """Return the same images as the harness holds them."""

    class Same(Dataset):
        name = "same"
        shape, classes, mean, std = task.shape, 10, task.mean, task.std

        def load(self, root: Path) -> Split:
            raise NotImplementedError

    pixels = torch.as_tensor(images.data[:n])
    x = pixels.unsqueeze(1) if task.shape[0] == 1 else pixels.permute(0, 3, 1, 2)
    y = torch.as_tensor(images.targets[:n], dtype=torch.int64)
    return Part.of(Images(x, y), Same(), None, torch.device("cpu"))


def use_up(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


class OurPass:
    """A pass over our part in a new order each time."""

    def __init__(self, part: Part, augment: Augment, batch: int) -> None:
        self.part, self.augment, self.batch = part, augment, batch
        self.clock = 0

    def __call__(self) -> None:
        self.clock += 1
        order = torch.randperm(len(self.part))
        use_up(self.part.training_batches(self.batch, order, self.augment, SEED, self.clock))


def check_same(task: Task, images: Any, part: Part, batch: int) -> None:
    """Check that both sides give the same numbers without augmentation."""
    if task.augment != "none":
        return
    ours, labels = part.batch(torch.arange(min(batch, len(part))))
    theirs: Tensor = torch.stack([images[i][0] for i in range(len(ours))])
    assert torch.allclose(ours, theirs, atol=1e-5), "the two sides make different batches"
    assert labels.tolist() == [int(images[i][1]) for i in range(len(ours))]


def compare(task: Task, given: argparse.Namespace, report: Report) -> None:
    images = torchvision_set(task, given.data, given.images)
    n = min(given.images, len(images))
    part = our_part(task, images, n)
    check_same(task, images, part, given.batch)
    ours = OurPass(part, Augment.parse(task.augment), given.batch)
    variants = [repeated("ours", ours, n)]
    for workers in WORKERS:
        loader: Any = DataLoader(
            Subset(images, range(n)), given.batch, shuffle=True, num_workers=workers,
            persistent_workers=workers > 0,
        )  # fmt: skip
        name = f"torchvision, {workers} workers"

        def run(loader: Any = loader) -> None:
            use_up(loader)

        # With workers there are more processes than cores: those switches are its own.
        variants.append(Variant(name, run, n, guarded=workers == 0))
    rounds = measured(variants, given)
    report.speeds(task.title, rounds, "images")
    for variant in variants[1:]:
        bound = Bound(">=", task.bound)
        name = f"{task.title}: ours is faster than {variant.name}, times"
        report.ratio(name, rounds, variant.name, "ours", bound)


def main() -> int:
    parser = options(__doc__, rounds=15)
    parser.add_argument("--data", type=Path, help="torchvision's folder; else random pixels")
    parser.add_argument("--images", type=int, default=12_800, help="[default: %(default)s]")
    parser.add_argument("--batch", type=int, default=128, help="[default: %(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="[default: %(default)s]")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    report = Report("data_path", settings_of(given))
    report.note(f"images from {given.data}" if given.data else "images: seeded random pixels")
    for task in TASKS:
        compare(task, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
