"""Augmentation in batches against one image at a time, and what it may depend on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision import transforms
from torchvision.transforms import functional as theirs

from bench.data.augment import Augment, View, padded, random_boxes, resampled
from bench.errors import UsageError
from bench.seeds import generator

some = settings(max_examples=25, deadline=None)
sides = st.tuples(st.integers(8, 20), st.integers(8, 20))
seeds = st.integers(0, 10_000)


def view_of(stored: tuple[int, int], window: tuple[int, int] | None = None,
            size: tuple[int, int] | None = None) -> View:  # fmt: skip
    """A view that changes no value: bytes as floats."""
    window = window or stored
    zero, one = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    return View(stored, window, size or window, zero, one)


def random_store(n: int, size: tuple[int, int], seed: int, channels: int = 2) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (n, channels, *size), generator=g, dtype=torch.uint8)


def augmented(view: View, store: Tensor, rows: Tensor, words: str, seed: int) -> Tensor:
    how = Augment.parse(words)
    padded_store = padded(store, view.margin) if how.crop else store
    return view.augmented(padded_store, rows, how, generator(seed, "augment", 0, 0))


# -- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["none", "flip", "flip+crop", "flip+crop+cutout", "flip+resized-crop+rotate"]
)
def test_words_are_read_and_written_the_same(text: str) -> None:
    assert str(Augment.parse(text)) == text
    assert Augment.parse("crop + flip") == Augment(flip=True, crop=True)


@pytest.mark.parametrize("text", ["flop", "", "flip+", "flip+none", "flip+flip", "resized_crop"])
def test_unknown_words_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        Augment.parse(text)
    message = str(refused.value)
    assert repr(text) in message
    assert "\n" not in message
    if text != "flip+flip":
        assert all(word in message for word in ("none", "flip", "crop", "resized-crop", "cutout"))


# -- whole pixels ----------------------------------------------------------------------------


def crops_of(image: np.ndarray, margin: int, window: tuple[int, int], is_flipped: bool) -> dict:
    """All crops of one image by shift, cut out of its zero-padded copy with plain slices."""
    channels, height, width = image.shape
    wide = np.zeros((channels, height + 2 * margin, width + 2 * margin), dtype=image.dtype)
    wide[:, margin : margin + height, margin : margin + width] = image
    top, left = (height - window[0]) // 2, (width - window[1]) // 2
    found = {}
    for down in range(2 * margin + 1):
        for right in range(2 * margin + 1):
            y, x = top + down, left + right
            cut = wide[:, y : y + window[0], x : x + window[1]]
            found[cut[:, :, ::-1].tobytes() if is_flipped else cut.tobytes()] = (down, right)
    return found


@some
@given(sides, st.integers(0, 3), st.sampled_from(["flip", "crop", "flip+crop"]), seeds)
def test_every_image_is_one_of_its_own_crops_mirrored_or_not(
    size: tuple[int, int], cut: int, words: str, seed: int
) -> None:
    store = random_store(6, size, seed)
    window = (size[0] - cut, size[1] - cut)
    view = view_of(size, window)
    rows = torch.tensor([5, 0, 0, 3])
    x = augmented(view, store, rows, words, seed)
    assert x.shape == (4, 2, *window)
    margin = view.margin if "crop" in words else 0
    for image, row in zip(x.to(torch.uint8).numpy(), rows.tolist(), strict=True):
        possible = crops_of(store[row].numpy(), margin, window, is_flipped=False)
        if "flip" in words:
            possible |= crops_of(store[row].numpy(), margin, window, is_flipped=True)
        assert image.tobytes() in possible


def test_half_the_images_are_mirrored_and_every_shift_is_as_likely() -> None:
    store = random_store(1, (16, 16), 0)
    n = 8000
    x = augmented(view_of((16, 16)), store, torch.zeros(n, dtype=torch.long), "flip+crop", 1)
    plain = crops_of(store[0].numpy(), 2, (16, 16), is_flipped=False)
    mirrored = crops_of(store[0].numpy(), 2, (16, 16), is_flipped=True)
    counts: dict[tuple[bool, tuple[int, int]], int] = {}
    for image in x.to(torch.uint8).numpy():
        data = image.tobytes()
        where = (True, mirrored[data]) if data in mirrored else (False, plain[data])
        counts[where] = counts.get(where, 0) + 1
    assert len(counts) == 2 * 5 * 5
    # Expected 160 each, standard deviation 12.5: six of them.
    assert max(abs(count - n / 50) for count in counts.values()) < 75


def test_a_crop_pads_by_an_eighth_of_the_height() -> None:
    assert [view_of((side, side)).margin for side in (32, 28, 64, 256)] == [4, 3, 8, 32]
    wide = padded(random_store(2, (5, 6), 0), 3)
    assert wide.shape == (2, 2, 11, 12)
    assert int(wide[:, :, :3].sum()) == int(wide[:, :, :, -3:].sum()) == 0


# -- cutout ----------------------------------------------------------------------------------


@some
@given(sides, seeds)
def test_cutout_zeroes_a_square_of_half_the_side_and_nothing_else(
    size: tuple[int, int], seed: int
) -> None:
    store = random_store(8, size, seed)
    rows = torch.arange(8)
    whole = augmented(view_of(size), store, rows, "flip+crop", seed)
    cut = augmented(view_of(size), store, rows, "flip+crop+cutout", seed)
    side = size[0] // 2
    for before, after in zip(whole + 1, cut + 1, strict=True):  # no pixel is 0 before
        rows_hit, columns_hit = np.nonzero((after[0] != before[0]).numpy())
        hit = before != after
        assert bool((after[hit] == 1).all())
        if len(rows_hit) == 0:
            continue
        high, wide = np.ptp(rows_hit) + 1, np.ptp(columns_hit) + 1
        assert high <= side and wide <= side


def test_a_square_is_whole_unless_it_overlaps_the_border_and_its_centre_is_anywhere() -> None:
    store = random_store(1, (16, 16), 0)
    n = 3000
    x = augmented(view_of((16, 16)), store, torch.zeros(n, dtype=torch.long), "cutout", 3)
    centres = set()
    for image in x:
        down, right = np.nonzero((image[0] == 0).numpy())
        first, last = (down.min(), right.min()), (down.max(), right.max())
        for low, high in zip(first, last, strict=True):
            assert high - low + 1 == 8 or low == 0 or high == 15
        assert len(down) == (last[0] - first[0] + 1) * (last[1] - first[1] + 1)
        corner = (
            last[0] - 7 if first[0] == 0 else first[0],
            last[1] - 7 if first[1] == 0 else first[1],
        )
        centres.add((int(corner[0]) + 4, int(corner[1]) + 4))
    assert centres == {(down, right) for down in range(16) for right in range(16)}


# -- resampling ------------------------------------------------------------------------------


@some
@given(sides, st.integers(4, 24), st.integers(4, 24), seeds)
def test_a_resized_crop_is_each_box_cut_out_and_resized_alone(
    size: tuple[int, int], height: int, width: int, seed: int
) -> None:
    x = random_store(5, size, seed).float() / 255
    boxes = random_boxes(5, size, torch.Generator().manual_seed(seed))
    found = resampled(x, boxes, None, (height, width))
    for image, box, ours in zip(x, boxes.tolist(), found, strict=True):
        top, left, h, w = box
        cut = image[None, :, top : top + h, left : left + w]
        expected = interpolate(cut, (height, width), mode="bilinear", align_corners=False)[0]
        assert torch.allclose(ours, expected, atol=2e-5)


@some
@given(st.tuples(st.integers(8, 80), st.integers(8, 80)), seeds)
def test_boxes_lie_in_the_image_and_have_the_area_and_aspect_allowed(
    size: tuple[int, int], seed: int
) -> None:
    boxes = random_boxes(50, size, torch.Generator().manual_seed(seed)).double()
    top, left, h, w = boxes.unbind(1)
    assert bool(((top >= 0) & (left >= 0) & (h > 0) & (w > 0)).all())
    assert bool(((top + h <= size[0]) & (left + w <= size[1])).all())
    # Half a pixel is rounding. Where no attempt fits, the fallback may be of any area.
    is_oblong = not 3 / 4 <= size[0] / size[1] <= 4 / 3
    assert bool(((w + 0.5) / (h - 0.5) >= 3 / 4).all())
    assert bool(((w - 0.5) / (h + 0.5) <= 4 / 3).all())
    assert is_oblong or bool(((h + 0.5) * (w + 0.5) >= 0.08 * size[0] * size[1]).all())


def test_boxes_are_spread_as_torchvisions() -> None:
    n = 4000
    torch.manual_seed(0)
    image = torch.zeros(3, 64, 64)
    reference = torch.tensor(
        [
            transforms.RandomResizedCrop.get_params(image, (0.08, 1.0), (3 / 4, 4 / 3))
            for _ in range(n)
        ]
    ).double()
    ours = random_boxes(n, (64, 64), torch.Generator().manual_seed(1)).double()
    for column in range(4):
        a, b = ours[:, column].sort().values, reference[:, column].sort().values
        # Kolmogorov and Smirnov's distance; 0.043 has a chance of one in a thousand.
        points = torch.arange(65).double()
        gap = torch.searchsorted(a, points, right=True) - torch.searchsorted(b, points, right=True)
        assert float(gap.abs().max()) / n < 0.05


@pytest.mark.parametrize("quarters", [0, 1, 2])
def test_a_rotation_by_quarters_moves_whole_pixels(quarters: int) -> None:
    x = random_store(3, (9, 9), 0).float()
    boxes = torch.tensor([0, 0, 9, 9]).repeat(3, 1)
    angles = torch.full((3,), quarters * math.pi / 2)
    found = resampled(x, boxes, angles, (9, 9))
    # The outermost samples may lie a rounding error outside, where the border starts to fade.
    assert torch.allclose(found, torch.rot90(x, quarters, (2, 3)), atol=1e-2)


@some
@given(st.floats(0, 180), seeds)
def test_a_rotation_is_torchvisions(degrees: float, seed: int) -> None:
    x = random_store(2, (15, 15), seed).float() / 255
    boxes = torch.tensor([0, 0, 15, 15]).repeat(2, 1)
    found = resampled(x, boxes, torch.full((2,), math.radians(degrees)), (15, 15))
    expected = theirs.rotate(x, degrees, theirs.InterpolationMode.BILINEAR)
    # torchvision fills between the outermost pixels and the outside in its own way: leave it out.
    inside = theirs.rotate(torch.ones(1, 1, 15, 15), degrees, theirs.InterpolationMode.BILINEAR)
    where = (inside > 0.999).expand_as(x)
    assert torch.allclose(found[where], expected[where], atol=1e-4)


def test_rotations_are_spread_over_half_a_turn_and_keep_the_size() -> None:
    store = torch.zeros(1, 1, 33, 33, dtype=torch.uint8)
    store[0, 0, 16, 26:30] = 255  # a hand that points right
    rows = torch.zeros(400, dtype=torch.long)
    x = augmented(view_of((33, 33)), store, rows, "rotate", 5)
    assert x.shape == (400, 1, 33, 33)
    down, right = torch.meshgrid(torch.arange(33.0), torch.arange(33.0), indexing="ij")
    mass = x[:, 0].sum((1, 2))
    up = 16 - (x[:, 0] * down).sum((1, 2)) / mass
    along = (x[:, 0] * right).sum((1, 2)) / mass - 16
    degrees = torch.rad2deg(torch.atan2(up, along))
    assert float(degrees.min()) > -3 and float(degrees.max()) < 183
    assert float(torch.histc(degrees, 6, 0, 180).min()) > 35


def test_words_that_resample_see_the_whole_stored_image_and_give_the_networks_size() -> None:
    store = random_store(4, (16, 16), 0)
    view = view_of((16, 16), (14, 14), (10, 10))
    rows = torch.arange(4)
    for words in ("resized-crop", "flip+rotate", "crop+resized-crop+rotate+cutout", "flip", "crop"):
        assert augmented(view, store, rows, words, 0).shape == (4, 2, 10, 10)
    boxes = random_boxes(4, (16, 16), generator(0, "augment", 0, 0))
    expected = resampled(store.float(), boxes, None, (10, 10))
    assert torch.equal(augmented(view, store, rows, "resized-crop", 0), expected)


# -- evaluation ------------------------------------------------------------------------------


def test_evaluation_of_256_stored_pixels_at_224_is_the_centre_itself() -> None:
    store = random_store(2, (256, 256), 0, channels=3)
    x = view_of((256, 256), (224, 224)).plain(store, torch.tensor([1]))
    assert torch.equal(x, theirs.center_crop(store[1:], [224, 224]).float())


@some
@given(sides, st.sampled_from(["flip", "flip+crop", "resized-crop", "rotate", "cutout"]), seeds)
def test_the_same_draws_give_the_same_batch_and_the_store_is_left_alone(
    size: tuple[int, int], words: str, seed: int
) -> None:
    store = random_store(6, size, seed)
    before = store.clone()
    torch.manual_seed(seed)
    state = torch.get_rng_state()
    one, other = (augmented(view_of(size), store, torch.arange(6), words, seed) for _ in range(2))
    assert torch.equal(one, other)
    assert torch.equal(store, before)
    assert torch.equal(torch.get_rng_state(), state)
