"""Resident and streamed parts hand out the same bytes, and streaming leaves nothing behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_images import (
    CPU,
    Photos,
    digest_of_streamed_batches,
    image_files,
    random_images,
)
from tiers import slow
from torch import Tensor
from torchvision import transforms
from torchvision.transforms.functional import pil_to_tensor

from bench.data.augment import Augment
from bench.data.batches import Part
from bench.data.dataset import check_images
from bench.data.decoding import decode
from bench.data.images import ImageFiles
from bench.data.splits import shrink_for_smoke, with_validation
from bench.data.streaming import Resident, Streamed, check_decodable
from bench.errors import DataDamaged, DataMissing, TrialFailed

WORDS = ["none", "flip", "flip+crop", "crop+cutout", "flip+resized-crop", "flip+crop+rotate"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> ImageFiles:
    return image_files(tmp_path_factory.mktemp("photos"), 22)


def part_of(images: object, streamed: bool, workers: int = 0, size: int | None = None) -> Part:
    resident_bytes = 0 if streamed else 2**30
    return Part.of(images, Photos(), size, CPU, resident_bytes=resident_bytes, workers=workers)  # type: ignore[arg-type]


def everything(part: Part, size: int, words: str, seed: int, start: int = 0) -> list[Tensor]:
    """All training batches of a shuffled part, then all evaluation batches."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed))
    augment = Augment.parse(words)
    batches = [*part.training_batches(size, order, augment, seed, 3, start), *part.batches(size)]
    return [tensor for pair in batches for tensor in pair]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(one, other, strict=True)
    )


# -- resident and streamed -------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(WORDS), st.integers(1, 25), st.integers(0, 99), st.integers(0, 4),
    st.sampled_from([None, 10, 16]), st.booleans(), st.booleans(),
)  # fmt: skip
def test_resident_and_streamed_batches_are_the_same_bit_for_bit(
    files: ImageFiles, words: str, size: int, seed: int, start: int, side: int | None,
    channels_last: bool, from_files: bool,
) -> None:  # fmt: skip
    images = files if from_files else random_images(22)
    resident, streamed = (
        part_of(images, how, size=side).in_memory_format(channels_last) for how in (False, True)
    )
    assert isinstance(resident.source, Resident) and isinstance(streamed.source, Streamed)
    assert resident.digest == streamed.digest
    whole = everything(resident, size, words, seed, start)
    assert same(whole, everything(streamed, size, words, seed, start))
    # Once more: by now the resident images are padded.
    assert same(whole, everything(resident, size, words, seed, start))
    index = torch.tensor([3, 3, 21, 0])
    assert torch.equal(resident.batch(index)[0], streamed.batch(index)[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(WORDS), st.integers(1, 9), st.integers(0, 5), st.booleans())
def test_a_batch_depends_on_its_number_and_not_on_where_the_epoch_began(
    words: str, size: int, start: int, streamed: bool
) -> None:
    part = part_of(random_images(22), streamed)
    order = torch.randperm(22, generator=torch.Generator().manual_seed(1))
    augment = Augment.parse(words)
    whole = list(part.training_batches(size, order, augment, 5, 2))
    rest = list(part.training_batches(size, order, augment, 5, 2, start))
    assert len(rest) == max(0, len(whole) - start)
    for (x, y), (again, labels) in zip(whole[start:], rest, strict=True):
        assert torch.equal(x, again) and torch.equal(y, labels)


def test_draws_change_with_seed_clock_and_batch() -> None:
    part = part_of(random_images(8), False)
    order = torch.arange(8).repeat(2)
    augment = Augment.parse("crop")
    drawn = [
        x for seed, clock in ((0, 0), (0, 1), (1, 0))
        for x, _ in part.training_batches(8, order, augment, seed, clock)
    ]  # fmt: skip
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])


def test_without_augmentation_training_sees_what_evaluation_sees() -> None:
    part = part_of(random_images(8), False)
    (x, y), *_ = part.training_batches(8, torch.arange(8), Augment(), 0, 0)
    assert torch.equal(x, part.batch(torch.arange(8))[0])
    assert torch.equal(y, part.y)


def test_workers_change_nothing(files: ImageFiles) -> None:
    for images in (files, random_images(22)):
        reference = everything(part_of(images, False), 4, "flip+crop", 1)
        for workers in (1, 2):
            part = part_of(images, True, workers)
            state = torch.get_rng_state()
            assert same(reference, everything(part, 4, "flip+crop", 1))
            assert torch.equal(torch.get_rng_state(), state)  # dropout draws from it
    decoded_by_workers = part_of(files, False, workers=2)
    assert same(
        everything(decoded_by_workers, 4, "none", 1),
        everything(part_of(files, False), 4, "none", 1),
    )
    assert multiprocessing.active_children() == []


def test_files_that_fit_become_resident_and_larger_ones_stream(files: ImageFiles) -> None:
    assert files.decoded_bytes == 22 * 3 * 16 * 16
    for limit, kind in ((files.decoded_bytes, Resident), (files.decoded_bytes - 1, Streamed)):
        part = Part.of(files, Photos(), None, CPU, resident_bytes=limit, workers=0)
        assert isinstance(part.source, kind)
    assert isinstance(Part.of(files, Photos(), None, CPU).source, Resident)


def test_an_empty_part_says_so_when_it_is_trained_on(files: ImageFiles) -> None:
    empty = part_of(files.take(torch.arange(0)), False)
    assert len(empty) == 0
    with pytest.raises(TrialFailed, match="no training images"):
        next(empty.training_batches(4, torch.arange(0), Augment(), 0, 0))


# -- identity --------------------------------------------------------------------------------


def test_the_digest_of_files_tells_names_sizes_labels_shape_and_window_apart(
    tmp_path: Path,
) -> None:
    files = image_files(tmp_path / "a", 4)
    base = part_of(files, True).digest

    class Smaller(Photos):
        crop_share = 1.0

    changed = [
        ImageFiles(files.root, files.paths, (files.y + 1) % 3, files.shape),
        files.take(torch.tensor([0, 1, 2])),
        files.take(torch.tensor([1, 0, 2, 3])),
        ImageFiles(files.root, files.paths, files.y, (3, 12, 12)),
    ]
    digests = [part_of(f, True).digest for f in changed]
    digests.append(Part.of(files, Smaller(), None, CPU).digest)
    digests.append(part_of(files, True, size=12).digest)
    (files.root / files.paths[0]).rename(files.root / "inner/other.jpg")
    renamed = ("inner/other.jpg", *files.paths[1:])
    digests.append(part_of(ImageFiles(files.root, renamed, files.y, files.shape), True).digest)
    with (files.root / "inner/other.jpg").open("ab") as file:
        file.write(b"\0")
    digests.append(part_of(ImageFiles(files.root, renamed, files.y, files.shape), True).digest)
    assert len({base, *digests}) == 1 + len(digests)
    elsewhere = image_files(tmp_path / "b", 4)
    assert part_of(elsewhere, True).digest == base


# -- decoding --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 90), st.integers(2, 90), st.integers(2, 40),
    st.sampled_from([("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("P", "png"),
                     ("RGBA", "png"), ("LA", "png"), ("1", "png"), ("RGB", "bmp"), ("RGB", "webp")]),
)  # fmt: skip
def test_an_image_is_decoded_as_torchvision_does(
    tmp_path_factory: pytest.TempPathFactory, width: int, height: int, side: int,
    kind: tuple[str, str],
) -> None:  # fmt: skip
    mode, extension = kind
    path = tmp_path_factory.mktemp("image") / f"image.{extension}"
    g = torch.Generator().manual_seed(width * 100 + height)
    pixels = torch.randint(256, (height, width, 3), generator=g, dtype=torch.uint8).numpy()
    Image.fromarray(pixels).convert(mode).save(path)
    with Image.open(path) as image:
        square = transforms.CenterCrop(side)(transforms.Resize(side)(image.convert("RGB")))
    assert torch.equal(torch.from_numpy(decode(path, side).copy()), pil_to_tensor(square))


BAD = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-200]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("<html>403 Forbidden</html>"),
    # Decoding PostScript would start another program.
    "a program": lambda path: path.write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) (w) file\n"
    ),
}


@pytest.mark.parametrize("damage", BAD)
def test_a_file_that_is_no_image_is_named_in_one_sentence(tmp_path: Path, damage: str) -> None:
    files = image_files(tmp_path, 5)
    path = tmp_path / files.paths[3]
    BAD[damage](path)
    for part in (lambda: part_of(files, False), lambda: list(part_of(files, True).batches(2)),
                 lambda: check_decodable(files)):  # fmt: skip
        with pytest.raises(DataDamaged) as damaged:
            part()
        message = str(damaged.value)
        assert str(path) in message
        assert "\n" not in message and len(message) < 400
        assert "DataLoader" not in message


def test_an_error_in_a_worker_is_the_same_sentence(tmp_path: Path) -> None:
    files = image_files(tmp_path, 5)
    path = tmp_path / files.paths[3]
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataDamaged) as alone:
        list(part_of(files, True).batches(2))
    with pytest.raises(DataDamaged) as in_worker:
        list(part_of(files, True, workers=1).batches(2))
    assert str(alone.value) == str(in_worker.value)
    path.unlink()
    with pytest.raises(DataMissing, match="003.jpg"):
        list(part_of(files, True, workers=1).batches(2))
    with pytest.raises(DataMissing, match="003.jpg"):
        check_images(files, files.shape, 3, "photos")


@pytest.mark.parametrize(
    "change", [{"shape": (3, 8, 8)}, {"y": torch.tensor([0, 1, 3])}, {"y": torch.tensor([0, 1])}]
)
def test_files_that_are_not_as_declared_are_refused(tmp_path: Path, change: dict) -> None:
    files = image_files(tmp_path, 3)
    check_images(files, (3, 16, 16), 3, "photos")
    fields = {"root": tmp_path, "paths": files.paths, "y": files.y, "shape": files.shape}
    with pytest.raises(DataDamaged, match="photos"):
        check_images(ImageFiles(**fields | change), (3, 16, 16), 3, "photos")


def test_checking_files_decodes_none_of_them(tmp_path: Path) -> None:
    files = image_files(tmp_path, 3)
    for name in files.paths:
        (tmp_path / name).write_bytes(b"not an image")
    check_images(files, (3, 16, 16), 3, "photos")
    assert part_of(files, True).digest  # names and sizes suffice


def test_files_are_split_as_images_are(tmp_path: Path) -> None:
    images = random_images(200)
    names = tuple(f"{i}.png" for i in range(200))
    files = ImageFiles(tmp_path, names, images.y, (3, 16, 16))
    for one, other in (
        (with_validation(images, images, "a"), with_validation(files, files, "a")),
        (shrink_for_smoke(with_validation(images, images, "a")),
         shrink_for_smoke(with_validation(files, files, "a"))),
    ):  # fmt: skip
        for part in ("train", "validation", "test"):
            theirs, ours = getattr(one, part), getattr(other, part)
            assert torch.equal(theirs.y, ours.y)
            for row, name in zip(theirs.x, ours.paths, strict=True):
                assert torch.equal(row, images.x[int(name.partition(".")[0])])


# -- processes -------------------------------------------------------------------------------


def test_stopping_early_ends_the_workers(files: ImageFiles) -> None:
    before = set(multiprocessing.active_children())
    batches = part_of(files, True, workers=2).batches(2)
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()  # type: ignore[attr-defined]
    assert set(multiprocessing.active_children()) == before
    for _ in part_of(files, True, workers=1).batches(2):
        break
    assert set(multiprocessing.active_children()) == before


def test_a_worker_process_of_a_sweep_streams_too(tmp_path: Path) -> None:
    image_files(tmp_path, 10)
    expected = digest_of_streamed_batches(tmp_path, 10, workers=0)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = [
            pool.submit(digest_of_streamed_batches, tmp_path, 10, 2).result() for _ in range(2)
        ]
    assert found == [expected] * 2


SCRIPT = """
import sys, torch
from pathlib import Path
sys.path.insert(0, {tests!r})
from small_images import CPU, Photos
from bench.data.batches import Part
from bench.data.images import ImageFiles

if __name__ == "__main__":
    names = tuple(f"inner/{{i:03d}}.jpg" for i in range(10))
    files = ImageFiles(Path({folder!r}), names, torch.arange(10) % 3, (3, 16, 16))
    part = Part.of(files, Photos(), None, CPU, resident_bytes=0, workers=2)
    order = torch.arange(10).repeat(100_000)
    try:
        for step, _ in enumerate(part.batches(2, order)):
            if step == 3:
                print("running", flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, slow(signal.SIGKILL)])
def test_ctrl_c_and_kills_end_the_workers_without_a_word(
    tmp_path: Path, how: signal.Signals
) -> None:
    image_files(tmp_path, 10)
    script = tmp_path / "script.py"
    tests = str(Path(__file__).parents[1])
    script.write_text(SCRIPT.format(tests=tests, folder=str(tmp_path)))
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    if how is signal.SIGINT:
        os.killpg(process.pid, how)  # a terminal tells the whole group
    else:
        process.kill()
    # The pipes end when the last process that holds them has ended.
    out, err = process.communicate(timeout=60)
    # After a kill Python's own tracker may say that it cleans up; a traceback is nobody's.
    assert "Traceback" not in err
    assert how is signal.SIGKILL or err == ""
    assert out == ("stopped\n" if how is signal.SIGINT else "")
