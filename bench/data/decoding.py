"""Decoding of image files: of each the centre square, in 8 bits a channel.

An image states its size and kind in its first bytes. What would take too much memory, or has no known range
of brightness, is refused by them, before any pixel is decoded.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from bench.data.ordinary_files import size_of_file
from bench.errors import BenchError, DataDamaged
from bench.regular_file import printable

# Formats that Pillow decodes itself. EPS and the like would start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
MOST_MEGAPIXELS = 89.0
# Resized, with four bytes each. No photograph is that long and thin.
_MOST_RESIZED_WHOLE, _MOST_RESIZED_PIXELS = 2**24, 2**28
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value of one


def decode(path: Path, side: int, megapixels: float = MOST_MEGAPIXELS) -> np.ndarray:
    """Return the centre square of an image: uint8 (3, side, side), the same as torchvision's.

    Args:
        megapixels: the most that is decoded.

    Raises:
        DataMissing: there is no such file.
        DataDamaged: it is truncated, not an image, too large, or of values without a known range.
    """
    size_of_file(path, "put the data set's file back")
    try:
        with _opened(path) as image:
            refused = _too_large(image, side, megapixels) or _of_unknown_range(image)
            if refused is not None:
                raise DataDamaged(f"{printable(path)} {refused}")
            square = _centre_square(_in_8_bits(image), side)
    except BenchError:
        raise
    except Exception as error:  # a damaged image may fail in any way
        reason = str(error).partition("\n")[0].replace(repr(str(path)), "it")
        raise DataDamaged(
            f"{printable(path)} cannot be decoded as an image ({reason or type(error).__name__}); replace "
            "the file by a good copy"
        ) from error
    return np.asarray(square).transpose(2, 0, 1)


def decode_all(root: Path, names: Sequence[str], side: int, megapixels: float) -> np.ndarray:
    """Decode files into one array (n, 3, side, side)."""
    x = np.empty((len(names), 3, side, side), dtype=np.uint8)
    for row, name in zip(x, names, strict=True):
        row[:] = decode(root / name, side, megapixels)
    return x


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image, of which the first bytes are read; Pillow's own limit is another than ours."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        image = Image.open(path, formats=FORMATS)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def _too_large(image: Image.Image, side: int, megapixels: float) -> str | None:
    """Return why an image is refused for its size."""
    width, height = image.size
    if not width * height <= megapixels * 1e6:  # a limit that is no number allows nothing
        return (
            f"has {width} x {height} pixels, {math.ceil(width * height / 1e6):,} megapixels where at "
            f"most {megapixels:g} are decoded; save it smaller, or raise --max-megapixels"
        )
    resized = _resized(image.size, side)
    if resized[0] * resized[1] > _MOST_RESIZED_PIXELS:
        return (
            f"has {width} x {height} pixels and would have {resized[0]} x {resized[1]} once its shorter "
            f"side is {side}, which takes gigabytes; cut out what matters of it, or remove the file"
        )
    return None


def _of_unknown_range(image: Image.Image) -> str | None:
    """Return why an image is refused for its values: nothing says which of them is white."""
    if image.mode == "F":
        values = "floating-point numbers"
    elif image.mode == "I" and not _has_16_bits(image):
        values = "whole numbers of 32 bits or with a sign"
    else:
        return None
    return (
        f"holds {values}, none of which is known to be white; save it with 8 or 16 bits a channel"
    )


def _has_16_bits(image: Image.Image) -> bool:
    """Return True for grey of 9 to 16 bits; what Pillow calls I in PNG and PPM never has more."""
    return image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Return an image in RGB; grey of more bits is scaled linearly, where Pillow would clip it."""
    if not _has_16_bits(image):
        return image.convert("RGB")
    tags = getattr(image, "tag_v2", {})
    (bits, *_) = tags.get(_BITS_PER_SAMPLE, (16,))
    white = 2**bits - 1
    grey = ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = grey[::-1]
    return Image.fromarray(grey[np.asarray(image)]).convert("RGB")


def _centre_square(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side, antialiased, and cut the centre out, rounding as torchvision does."""
    wanted = _resized(image.size, side)
    left, top = round((wanted[0] - side) / 2), round((wanted[1] - side) / 2)
    if wanted[0] * wanted[1] > _MOST_RESIZED_WHOLE:
        # The same square but for rounding, without the hundreds of megabytes on its two sides.
        across, down = image.width / wanted[0], image.height / wanted[1]
        box = (left * across, top * down, (left + side) * across, (top + side) * down)
        return image.resize((side, side), Image.Resampling.BILINEAR, box)
    if wanted != image.size:
        image = image.resize(wanted, Image.Resampling.BILINEAR)
    return image.crop((left, top, left + side, top + side))


def _resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    width, height = size
    if width > height:
        return int(side * width / height), side
    return side, int(side * height / width)
