"""Image files as people have them: 16-bit grey, huge, thin, or no image at all."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, TiffImagePlugin
from small_images import write_image

from bench.cli.flags import max_megapixels
from bench.data.dataset import check_images
from bench.data.decoding import MOST_MEGAPIXELS, decode
from bench.data.images import ImageFiles
from bench.data.streaming import check_decodable
from bench.errors import DataDamaged, DataMissing
from bench.sweep.config import RunConfig


def grey_of(path: Path) -> np.ndarray:
    """The middle square, of which all three channels must be equal."""
    red, green, blue = decode(path, 16)
    assert np.array_equal(red, green) and np.array_equal(red, blue)
    return red


@pytest.mark.parametrize("extension", ["png", "tif", "pgm.ppm"])
def test_grey_of_16_bits_is_scaled_linearly(tmp_path: Path, extension: str) -> None:
    values = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    path = tmp_path / f"image.{extension}"
    Image.fromarray(values).save(path)
    assert np.array_equal(grey_of(path), np.rint(values / 257).astype(np.uint8))


def test_grey_of_16_bits_is_read_in_both_orders_of_bytes_and_with_white_as_zero(
    tmp_path: Path,
) -> None:
    values = np.linspace(0, 65535, 256).reshape(16, 16).astype(np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    Image.fromarray(values.astype(">u2")).save(tmp_path / "big.tif")
    assert np.array_equal(grey_of(tmp_path / "big.tif"), expected)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    Image.fromarray(values).save(tmp_path / "negative.tif", tiffinfo=tags)
    with Image.open(tmp_path / "negative.tif") as image:
        assert image.tag_v2[262] == 0
    assert np.array_equal(grey_of(tmp_path / "negative.tif"), 255 - expected)


@pytest.mark.parametrize(
    ("kind", "words"),
    [(np.float32, "floating-point numbers"), (np.int32, "whole numbers of 32 bits")],
)
def test_values_without_a_white_are_refused_by_name(tmp_path: Path, kind: type, words: str) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(np.ones((16, 16), kind)).save(path)
    with pytest.raises(DataDamaged, match=words) as refused:
        decode(path, 16)
    assert str(refused.value).startswith(f"{path} holds")


def test_a_large_image_is_refused_before_it_is_decoded_unless_the_flag_allows_it(
    tmp_path: Path,
) -> None:
    write_image(tmp_path / "small.png", 40, 50)
    with pytest.raises(DataDamaged, match="40 x 50 pixels") as refused:
        decode(tmp_path / "small.png", 16, megapixels=0.001)
    assert "--max-megapixels" in str(refused.value)
    assert decode(tmp_path / "small.png", 16, megapixels=0.002).shape == (3, 16, 16)

    Image.new("1", (30_000, 6_000)).save(tmp_path / "huge.png")  # Pillow itself would refuse it
    path = tmp_path / "huge.png"
    data = path.read_bytes()
    path.write_bytes(data[:200])  # pixels are not there, and not missed
    tracemalloc.start()
    with pytest.raises(DataDamaged, match="180 megapixels where at most 89"):
        decode(path, 16)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_the_limit_is_the_flags_and_goes_with_the_files(tmp_path: Path) -> None:
    assert RunConfig(out=tmp_path, device="cpu").max_megapixels == MOST_MEGAPIXELS

    @max_megapixels
    def command() -> None: ...

    assert command.__click_params__[0].default == MOST_MEGAPIXELS  # type: ignore[attr-defined]
    write_image(tmp_path / "a.png", 40, 50)
    files = ImageFiles(tmp_path, ("a.png",), torch.tensor([0]), (3, 16, 16))
    check_decodable(files)
    with pytest.raises(DataDamaged, match="megapixels"):
        check_decodable(files.up_to(0.001).take(torch.tensor([0])).copied())


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1)])
def test_what_would_be_resized_to_gigabytes_is_refused(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size).save(tmp_path / "thin.png")
    with pytest.raises(DataDamaged, match="takes gigabytes"):
        decode(tmp_path / "thin.png", 256)


@pytest.mark.parametrize("turned", [False, True])
def test_of_a_long_thin_image_the_middle_alone_is_resized(tmp_path: Path, turned: bool) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(3, 900, 3), dtype=np.uint8)
    image = Image.fromarray(pixels.swapaxes(0, 1) if turned else pixels)
    image.save(tmp_path / "thin.png")
    whole = image.resize((256, 76_800) if turned else (76_800, 256), Image.Resampling.BILINEAR)
    left, top = (whole.width - 256) // 2, (whole.height - 256) // 2
    expected = np.asarray(whole.crop((left, top, left + 256, top + 256))).transpose(2, 0, 1)
    found = decode(tmp_path / "thin.png", 256)
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


def test_a_pipe_a_device_and_a_folder_are_no_images(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "nowhere.png").symlink_to("/nowhere/at/all")
    (tmp_path / "round.png").symlink_to("round.png")
    for name, error, words in [
        ("pipe", DataDamaged, "is a named pipe"), ("folder", DataDamaged, "is a folder"),
        ("device", DataDamaged, "is a device"), ("nowhere", DataMissing, "is a link to /nowhere"),
        ("round", DataDamaged, "cannot be read"), ("missing", DataMissing, "is missing"),
    ]:  # fmt: skip
        with pytest.raises(error, match=words):
            decode(tmp_path / f"{name}.png", 16)
        files = ImageFiles(tmp_path, (f"{name}.png",), torch.tensor([0]), (3, 16, 16))
        with pytest.raises(error, match=words):
            check_images(files, (3, 16, 16), 1, "photos")


def test_names_that_are_not_utf_8_or_of_two_lines_are_decoded_and_told_on_one_line(
    tmp_path: Path,
) -> None:
    names = (os.fsdecode(b"caf\xe9.png"), "a\nb.png")
    for name in names:
        write_image(tmp_path / "plain.png")
        (tmp_path / "plain.png").rename(tmp_path / name)
    files = ImageFiles(tmp_path, names, torch.tensor([0, 1]), (3, 16, 16))
    check_images(files, files.shape, 2, "photos")
    check_decodable(files)
    (tmp_path / names[1]).write_bytes(b"")
    with pytest.raises(DataDamaged) as refused:
        decode(tmp_path / names[1], 16)
    assert "a\\nb.png" in str(refused.value) and "\n" not in str(refused.value)
