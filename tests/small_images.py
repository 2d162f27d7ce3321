"""Images, in memory and in files, small enough to be decoded inside a test."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.data.augment import Augment
from bench.data.batches import Part
from bench.data.dataset import Dataset
from bench.data.images import ImageFiles, Images

CPU = torch.device("cpu")


class Photos(Dataset):
    """Three classes of 16x16 colour images, of which evaluation sees the middle 14x14."""

    name = "photos"
    shape = (3, 16, 16)
    classes = 3
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    crop_share = 0.875

    def load(self, root: Path) -> Any:
        raise NotImplementedError


def random_images(n: int, shape: tuple[int, int, int] = (3, 16, 16), seed: int = 0) -> Images:
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (n, *shape), generator=g, dtype=torch.uint8)
    return Images(x, torch.randint(3, (n,), generator=g))


def write_image(path: Path, width: int = 20, height: int = 18, seed: int = 0) -> None:
    """Write random pixels; the extension says in which format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def image_files(folder: Path, n: int) -> ImageFiles:
    """Write n images of different sizes."""
    names = tuple(f"inner/{i:03d}.jpg" for i in range(n))
    for i, name in enumerate(names):
        write_image(folder / name, 16 + i % 7, 16 + i % 5, seed=i)
    return ImageFiles(folder, names, torch.arange(n) % 3, (3, 16, 16))


def digest_of_streamed_batches(folder: Path, n: int, workers: int) -> str:
    """What a worker process of a sweep does: one thread, files streamed by processes of its own."""
    torch.set_num_threads(1)
    names = tuple(f"inner/{i:03d}.jpg" for i in range(n))
    files = ImageFiles(folder, names, torch.arange(n) % 3, (3, 16, 16))
    part = Part.of(files, Photos(), None, CPU, resident_bytes=0, workers=workers)
    sha = hashlib.sha256()
    augment = Augment.parse("flip+crop")
    for x, y in part.training_batches(4, torch.arange(n).flip(0), augment, seed=1, clock=2):
        sha.update(x.numpy().tobytes() + y.numpy().tobytes())
    return sha.hexdigest()
