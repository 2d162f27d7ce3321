"""Images with their labels: in memory as uint8, or in files that are decoded when asked for."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.errors import DataDamaged, DataMissing

Shape = tuple[int, int, int]

# Formats that Pillow decodes itself. EPS and the like would start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")


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
    """

    root: Path
    paths: tuple[str, ...]
    y: Tensor
    shape: Shape

    def __len__(self) -> int:
        return len(self.y)

    @property
    def decoded_bytes(self) -> int:
        """Memory that all of them take once they are decoded."""
        channels, height, width = self.shape
        return len(self) * channels * height * width

    def take(self, index: Tensor) -> "ImageFiles":
        chosen = tuple(self.paths[i] for i in index.tolist())
        return ImageFiles(self.root, chosen, self.y.index_select(0, index), self.shape)

    def copied(self) -> "ImageFiles":
        """Return the same files with labels in memory of their own."""
        return ImageFiles(self.root, self.paths, self.y.clone(), self.shape)

    def together(self, other: "ImageFiles") -> "ImageFiles":
        """Return these files followed by others of the same folder and shape."""
        y = torch.cat([self.y, other.y])
        return ImageFiles(self.root, self.paths + other.paths, y, self.shape)

    def first_missing(self) -> Path | None:
        """Return the first file that is not there."""
        return next((p for name in self.paths if not (p := self.root / name).is_file()), None)


AnyImages = Images | ImageFiles


def decode(path: Path, side: int) -> np.ndarray:
    """Return the centre square of an image: uint8 (3, side, side), the same as torchvision's.

    Raises:
        DataMissing: there is no such file.
        DataDamaged: it is truncated or not an image.
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            square = _centre_square(image.convert("RGB"), side)
    except FileNotFoundError as error:
        raise DataMissing(f"{path} is missing; put the data set's file back") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error,
            Image.DecompressionBombError) as error:  # fmt: skip
        reason = str(error).partition("\n")[0].replace(repr(str(path)), "it")
        raise DataDamaged(
            f"{path} cannot be decoded as an image ({reason}); replace the file by a good copy"
        ) from error
    return np.asarray(square).transpose(2, 0, 1)


def decode_all(root: Path, names: Sequence[str], side: int) -> np.ndarray:
    """Decode files into one array (n, 3, side, side)."""
    x = np.empty((len(names), 3, side, side), dtype=np.uint8)
    for row, name in zip(x, names, strict=True):
        row[:] = decode(root / name, side)
    return x


def _centre_square(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side, antialiased, and cut the centre out, rounding as torchvision does."""
    width, height = image.size
    wanted = (side, int(side * height / width))
    if width > height:
        wanted = (int(side * width / height), side)
    if wanted != image.size:
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    left, top = round((wanted[0] - side) / 2), round((wanted[1] - side) / 2)
    return image.crop((left, top, left + side, top + side))
