"""From stored uint8 images to what a network is given: augmentation in batches, on the device.

A crop and a flip move whole pixels and are done on the stored bytes. Then images become floats and
are normalised, resampled by what bends them, brought to the network's size, and cut out.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample, interpolate

from bench.errors import UsageError

Size = tuple[int, int]  # height, width
CROP_MARGIN = 8  # a crop pads by height / 8 on each side: 4 pixels at 32
_AREA = (0.08, 1.0)
_ASPECT = (3 / 4, 4 / 3)
_ATTEMPTS = 10


@dataclass(frozen=True)
class Augment:
    """The random changes to training images.

    Attributes:
        flip: mirror left and right, every other image.
        crop: pad the stored bytes with zeros by an eighth of the height, cut the size out again.
        resized_crop: a box of 8-100 % of the area and aspect 3/4-4/3, resampled to the network's
            size. Boxes lie in the decoded square, not in the image file.
        rotate: by 0-180 degrees; what comes in from outside has the data set's mean colour.
        cutout: a square of half the side is zeroed after normalisation; its centre may lie
            anywhere, so it may overlap the border (DeVries & Taylor 2017).
    """

    flip: bool = False
    crop: bool = False
    resized_crop: bool = False
    rotate: bool = False
    cutout: bool = False

    @classmethod
    def parse(cls, text: str) -> "Augment":
        """Read words joined by "+", such as flip+crop, or none.

        Raises:
            UsageError: a word is unknown or comes twice.
        """
        known = [f.name.replace("_", "-") for f in fields(cls)]
        words = [word.strip() for word in text.split("+")]
        if words == ["none"]:
            return cls()
        for word in words:
            if word not in known:
                raise UsageError(
                    f"Unknown augmentation {word!r} in {text!r}; it is none, or words joined by +: "
                    f"{', '.join(known)}"
                )
        if len(set(words)) < len(words):
            raise UsageError(f"The augmentation {text!r} names a word twice; name each once")
        return cls(**{word.replace("-", "_"): True for word in words})

    def __str__(self) -> str:
        words = [f.name.replace("_", "-") for f in fields(self) if getattr(self, f.name)]
        return "+".join(words) or "none"

    @property
    def bends(self) -> bool:
        """True where pixels are resampled, not only moved."""
        return self.resized_crop or self.rotate


@dataclass(frozen=True)
class View:
    """The view that a network has of stored images.

    Attributes:
        stored: height and width of the images as they are stored.
        window: of the centre that is looked at; the rest is cut off.
        size: what the network wants; the window is resized to it.
        mean, std: per channel (1, c, 1, 1), in units of stored bytes.
    """

    stored: Size
    window: Size
    size: Size
    mean: Tensor
    std: Tensor

    @property
    def margin(self) -> int:
        """Pixels by which a random crop pads each side."""
        return self.stored[0] // CROP_MARGIN

    def plain(self, store: Tensor, rows: Tensor) -> Tensor:
        """Return rows of a store (n, c, h, w) as the network sees them when it is evaluated."""
        top, left = _centre(self.stored, self.window)
        height, width = self.window
        middle = store[:, :, top : top + height, left : left + width]
        return self._resized(self._normalised(middle.index_select(0, rows)))

    def augmented(self, store: Tensor, rows: Tensor, how: Augment, draws: Generator) -> Tensor:
        """Return rows of a store as the network sees them in training.

        Args:
            store: uint8 (n, c, h, w); padded by `margin` on each side where `how` crops.
            draws: a CPU generator that belongs to this batch alone.
        """
        n = len(rows)
        window = self.stored if how.bends else self.window
        flipped = (torch.rand(n, generator=draws) < 0.5).nonzero().flatten() if how.flip else None
        if how.crop:
            x = self._cropped(store, rows, window, draws)
        else:
            top, left = _centre(self.stored, window)
            middle = store[:, :, top : top + window[0], left : left + window[1]]
            x = middle.index_select(0, rows)
        if flipped is not None:
            flipped = flipped.to(x.device)  # three times as fast as torch.where on all images
            x.index_copy_(0, flipped, x.index_select(0, flipped).flip(3))
        x = self._normalised(x)
        if how.bends:
            x = self._bent(x, how, draws)
        x = self._resized(x)
        return cutout(x, draws) if how.cutout else x

    def _normalised(self, x: Tensor) -> Tensor:
        return x.float().sub_(self.mean).div_(self.std)

    def _resized(self, x: Tensor) -> Tensor:
        if x.shape[2:] == self.size:
            return x
        return interpolate(x, size=self.size, mode="bilinear", antialias=True)

    def _cropped(self, store: Tensor, rows: Tensor, window: Size, draws: Generator) -> Tensor:
        """Cut the window out of the padded store, shifted by up to the margin: one indexed view."""
        top, left = _centre(self.stored, window)
        shifts = torch.randint(2 * self.margin + 1, (2, len(rows)), generator=draws)
        down, right = shifts.to(store.device)
        windows = store.unfold(2, window[0], 1).unfold(3, window[1], 1)
        return windows[rows, :, down + top, right + left].contiguous()

    def _bent(self, x: Tensor, how: Augment, draws: Generator) -> Tensor:
        n = len(x)
        if how.resized_crop:
            boxes, size = random_boxes(n, self.stored, draws), self.size
        else:
            boxes = torch.tensor([*_centre(self.stored, self.window), *self.window]).repeat(n, 1)
            size = self.window
        angles = torch.rand(n, generator=draws) * math.pi if how.rotate else None
        return resampled(x, boxes, angles, size)


def padded(x: Tensor, margin: int) -> Tensor:
    """Return uint8 images (n, c, h, w) with a border of zeros."""
    n, channels, height, width = x.shape
    wide = x.new_zeros(n, channels, height + 2 * margin, width + 2 * margin)
    wide[:, :, margin : margin + height, margin : margin + width] = x
    return wide


def random_boxes(n: int, size: Size, draws: Generator) -> Tensor:
    """Draw boxes (n, 4): top, left, height, width in whole pixels, as RandomResizedCrop does.

    Area is uniform, aspect log-uniform; the first of ten attempts that fits counts, and else the
    largest centred box whose aspect is allowed.
    """
    height, width = size
    area = torch.empty(n, _ATTEMPTS).uniform_(*_AREA, generator=draws) * (height * width)
    limits = (math.log(_ASPECT[0]), math.log(_ASPECT[1]))
    aspect = torch.empty(n, _ATTEMPTS).uniform_(*limits, generator=draws).exp()
    places = torch.rand(n, 2, generator=draws)
    wide, high = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
    fits = (wide > 0) & (wide <= width) & (high > 0) & (high <= height)
    first = fits.int().argmax(1, keepdim=True)
    h, w = (t.gather(1, first).squeeze(1).long() for t in (high, wide))
    top = (places[:, 0] * (height - h + 1)).long()
    left = (places[:, 1] * (width - w + 1)).long()
    boxes = torch.stack([top, left, h, w], dim=1)
    whole = (
        min(height, round(width / _ASPECT[0])),
        min(width, round(height * _ASPECT[1])),
    )
    fallback = torch.tensor([*_centre(size, whole), *whole])
    return torch.where(fits.any(1, keepdim=True), boxes, fallback)


def resampled(x: Tensor, boxes: Tensor, angles: Tensor | None, size: Size) -> Tensor:
    """Rotate images about their centres, cut boxes out and resize them: one bilinear sampling.

    Args:
        x: float images (n, c, h, w).
        boxes: (n, 4) top, left, height, width in pixels.
        angles: (n,) radians, counter-clockwise; None: images stay upright.
        size: height and width of the result.
    """
    height, width = x.shape[2:]
    top, left, h, w = (column.float().view(-1, 1) for column in boxes.unbind(1))
    rows = _positions(top, h, size[0]).to(x.device).unsqueeze(2).expand(-1, -1, size[1])
    columns = _positions(left, w, size[1]).to(x.device).unsqueeze(1).expand(-1, size[0], -1)
    if angles is not None:
        cos, sin = (f(angles).to(x.device).view(-1, 1, 1) for f in (torch.cos, torch.sin))
        down, right = rows - (height - 1) / 2, columns - (width - 1) / 2
        rows = sin * right + cos * down + (height - 1) / 2
        columns = cos * right - sin * down + (width - 1) / 2
    # grid_sample counts from -1 to 1 between the centres of the outermost pixels.
    grid = torch.stack(
        [columns * 2 / max(1, width - 1) - 1, rows * 2 / max(1, height - 1) - 1], dim=3
    )
    return grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def cutout(x: Tensor, draws: Generator) -> Tensor:
    """Zero a square of half the side in every image (n, c, h, w), in place; centres anywhere."""
    n, _, height, width = x.shape
    side = height // 2
    centre = torch.rand(n, 2, generator=draws) * torch.tensor([height, width])
    first = (centre.long() - side // 2).to(x.device)
    rows = _within(torch.arange(height, device=x.device), first[:, :1], side)
    columns = _within(torch.arange(width, device=x.device), first[:, 1:], side)
    return x.masked_fill_((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0)


def _within(positions: Tensor, first: Tensor, length: int) -> Tensor:
    return (positions >= first) & (positions < first + length)


def _positions(start: Tensor, length: Tensor, n: int) -> Tensor:
    """Return the places (b, n) of n evenly spread samples of a stretch of pixels; never outside it."""
    inside = (torch.arange(n) + 0.5) * (length / n) - 0.5
    return start + torch.minimum(inside.clamp(min=0), length - 1)


def _centre(outer: Size, inner: Size) -> Size:
    return (outer[0] - inner[0]) // 2, (outer[1] - inner[1]) // 2
