"""The digest of a data set: every kind of change shows, the place of the files does not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_images import image_files, random_images

from bench.data.content import digest_of_split, mark_of_part
from bench.data.images import ImageFiles, Images
from bench.data.splits import Split
from bench.store.file_digests import FileDigests


def digest(split: Split, classes: int = 3) -> str:
    return digest_of_split(split, classes, FileDigests())


@pytest.fixture
def tensors() -> Split:
    return Split(*(random_images(n, seed=n) for n in (12, 5, 7)))


def flipped(images: Images) -> Images:
    x = images.x.clone()
    x[3, 1, 2, 2] ^= 1
    return Images(x, images.y)


def relabelled(images: Images) -> Images:
    y = images.y.clone()
    y[3] = (y[3] + 1) % 3
    return Images(images.x, y)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize(
    "change", [flipped, relabelled, lambda i: i.take(torch.arange(len(i) - 1))]
)
def test_a_bit_a_label_or_an_image_of_any_part_makes_another_digest(
    tensors: Split, part: str, change: Callable[[Images], Images]
) -> None:
    images = getattr(tensors, part)
    other = replace(tensors, **{part: change(images)})
    assert digest(other) != digest(tensors)
    assert mark_of_part(getattr(other, part)) != mark_of_part(images)


def test_layout_in_memory_is_no_content(tensors: Split) -> None:
    last = Images(
        tensors.train.x.contiguous(memory_format=torch.channels_last), tensors.train.y.int()
    )
    assert digest(replace(tensors, train=last)) == digest(tensors)
    assert digest(tensors, classes=4) != digest(tensors)
    assert digest(Split(tensors.train, tensors.test, tensors.validation)) != digest(tensors)


def parts_of(files: ImageFiles) -> Split:
    return Split(*(files.take(torch.arange(a, b)) for a, b in ((0, 8), (8, 10), (10, 12))))


def test_the_same_files_elsewhere_have_the_same_digest(tmp_path: Path) -> None:
    here = image_files(tmp_path / "here", 12)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    there = replace(here, root=tmp_path / "there")
    assert digest(parts_of(here)) == digest(parts_of(there))
    name = there.paths[9]
    content = bytearray((there.root / name).read_bytes())
    content[-1] ^= 1
    (there.root / name).write_bytes(content)
    assert digest(parts_of(here)) != digest(parts_of(there))


def test_labels_and_names_of_files_count(tmp_path: Path) -> None:
    files = image_files(tmp_path, 12)
    swapped = replace(files, y=(files.y + 1) % 3)
    renamed = replace(files, paths=(*files.paths[1:], files.paths[0]))
    assert len({digest(parts_of(f)) for f in (files, swapped, renamed)}) == 3
    marks = {mark_of_part(f) for f in (files, swapped, renamed)}
    assert len(marks) == 3
    (tmp_path / files.paths[0]).touch()
    assert mark_of_part(files) not in marks
