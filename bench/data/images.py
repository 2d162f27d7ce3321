"""Images with their labels: in memory as uint8, or in files that are decoded when asked for."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from bench.data.decoding import MOST_MEGAPIXELS

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Images:
    """Images (n, channels, height, width) in uint8 and their labels (n,) in int64.

    A regression's samples are float32, and so are their targets (n, numbers).
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: Tensor) -> "Images":
        return Images(self.x.index_select(0, index), self.y.index_select(0, index))

    def copied(self) -> "Images":
        """Return the same images in memory of their own: of a view, the whole would stay."""
        return Images(self.x.clone(), self.y.clone())


@dataclass(frozen=True)
class ImageFiles:
    """Image files and their labels (n,); each is decoded to `shape` when it is asked for.

    Attributes:
        root: the data set's own folder.
        paths: of the files, relative to `root`, with forward slashes.
        shape: (3, side, side): the shorter side is resized to `side`, then the centre is cut out.
        megapixels: the most that a file may have to be decoded.
    """

    root: Path
    paths: tuple[str, ...]
    y: Tensor
    shape: Shape
    megapixels: float = MOST_MEGAPIXELS

    def __len__(self) -> int:
        return len(self.y)

    @property
    def decoded_bytes(self) -> int:
        """Memory that all of them take once they are decoded."""
        channels, height, width = self.shape
        return len(self) * channels * height * width

    def take(self, index: Tensor) -> "ImageFiles":
        chosen = tuple(self.paths[i] for i in index.tolist())
        return replace(self, paths=chosen, y=self.y.index_select(0, index))

    def copied(self) -> "ImageFiles":
        """Return the same files with labels in memory of their own."""
        return replace(self, y=self.y.clone())

    def together(self, other: "ImageFiles") -> "ImageFiles":
        """Return these files followed by others of the same folder and shape."""
        y = torch.cat([self.y, other.y])
        return replace(self, paths=self.paths + other.paths, y=y)

    def up_to(self, megapixels: float) -> "ImageFiles":
        """Return the same files, of which larger ones are refused when they are decoded."""
        return replace(self, megapixels=megapixels)

    def first_missing(self) -> Path | None:
        """Return the first file that is not there."""
        return next((p for name in self.paths if not (p := self.root / name).is_file()), None)


AnyImages = Images | ImageFiles
