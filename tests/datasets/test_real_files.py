"""The data sets on real files, where BENCH_TEST_DATA names a folder that has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.augment import Augment
from bench.data.batches import Part
from bench.data.dataset import Dataset, check_images
from bench.data.images import ImageFiles, Images
from bench.datasets.cifar import Cifar10
from bench.datasets.flowers import Flowers, FlowersOfficial
from bench.datasets.folder import ImageFolder
from bench.datasets.imagenet import Imagenette, TinyImagenet
from bench.datasets.mnist import FashionMnist, KuzushijiMnist, Mnist

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root() -> Path:
    folder = os.environ.get("BENCH_TEST_DATA")
    if not folder:
        pytest.skip("BENCH_TEST_DATA names no folder of real data sets")
    return Path(folder)


def test_cifar_10_has_its_sizes_classes_and_constants(root: Path) -> None:
    split = Cifar10().load(root)
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [45_000, 5_000, 10_000]
    for part, each in zip(parts, (4_500, 500, 1_000), strict=True):
        assert torch.bincount(part.y).tolist() == [each] * 10
    pixels = torch.cat([split.train.x, split.validation.x]).double().div_(255)
    assert pixels.mean((0, 2, 3)).tolist() == pytest.approx(Cifar10.mean, abs=1e-3)
    assert pixels.std((0, 2, 3)).tolist() == pytest.approx(Cifar10.std, abs=1e-3)


def test_cifar_10_is_what_torchvision_reads(root: Path) -> None:
    from torchvision import datasets

    theirs = datasets.CIFAR10(str(root), train=False)
    test = Cifar10().load(root).test
    assert np.array_equal(theirs.data, test.x.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == test.y.tolist()
    Cifar10().verify(root)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Mnist(), (54_000, 6_000, 10_000)),
        (FashionMnist(), (54_000, 6_000, 10_000)),
        (KuzushijiMnist(), (6_310, 701, 10_000)),
        (Flowers(), (192, 144, 144)),
        (FlowersOfficial(), (192, 96, 192)),
        (TinyImagenet(), (720, 80, 400)),
        (Imagenette(), (216, 24, 100)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_every_set_trains_and_evaluates(
    root: Path, dataset: Dataset, expected: tuple[int, int, int]
) -> None:
    split = dataset.load(root)
    parts = (split.train, split.validation, split.test)
    assert tuple(len(part) for part in parts) == expected
    seen: set[str] = set()
    for part in parts:
        check_images(part, dataset.shape, dataset.classes, dataset.name)
        if isinstance(part, ImageFiles):
            assert not seen & set(part.paths)
            seen |= set(part.paths)
        part = part.take(torch.arange(24))
        batches = Part.of(part, dataset, None, CPU)
        order = torch.randperm(24, generator=torch.Generator().manual_seed(0))
        for x, y in (
            *batches.batches(16),
            *batches.training_batches(16, order, Augment.parse(dataset.augment), 0, 0),
        ):
            assert x.shape == (len(y), *dataset.shape)
            assert float(x.mean()) == pytest.approx(0, abs=1)
            assert 0.4 < float(x.std()) < 1.8


def test_flowers_are_the_images_that_torchvision_reads(root: Path) -> None:
    from torchvision import datasets

    split = FlowersOfficial().load(root)
    for part, name in ((split.train, "train"), (split.validation, "val"), (split.test, "test")):
        theirs = datasets.Flowers102(str(root), split=name)
        label_of = dict(zip((p.name for p in theirs._image_files), theirs._labels, strict=True))
        assert [label_of[Path(p).name] for p in part.paths] == part.y.tolist()


def test_a_user_may_name_the_same_folder_and_gets_the_same_images(root: Path) -> None:
    ours, named = Imagenette().load(root), ImageFolder(root / "imagenette2-160").load(Path())
    assert sorted(ours.test.paths) == sorted(named.test.paths)
    assert ours.test.y.tolist() == named.test.y.tolist()


def test_streamed_and_resident_photographs_are_the_same(root: Path) -> None:
    dataset = Flowers()
    files = dataset.load(root).train.take(torch.arange(40))
    order = torch.arange(40).flip(0)
    resident, streamed = (
        Part.of(files, dataset, 64, CPU, resident_bytes=limit, workers=1) for limit in (2**30, 0)
    )
    augment = Augment.parse(dataset.augment)
    for (x, y), (again, labels) in zip(
        resident.training_batches(16, order, augment, 0, 1),
        streamed.training_batches(16, order, augment, 0, 1), strict=True,
    ):  # fmt: skip
        assert torch.equal(x, again) and torch.equal(y, labels)
    assert resident.digest == streamed.digest
    assert isinstance(files, ImageFiles) and not isinstance(files, Images)
