"""Data sets of tasks other than classification: sparse regressions, pixels, and their batches."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench.data.augment import Augment
from bench.data.batches import Part
from bench.data.dataset import Dataset, check_images
from bench.data.images import Images
from bench.data.splits import shrink_for_smoke
from bench.data.tasks.autoencoder import AUTOENCODER
from bench.data.tasks.regression import REGRESSION
from bench.datasets.embedded import Mnist5k, Mnist5kPixels
from bench.datasets.mnist import FashionPixels, MnistPixels
from bench.datasets.sparse_regression import NoisyRegression, SparseRegression
from bench.errors import DataDamaged
from bench.graph.trace import layout_of
from bench.measure.sizes import live, support
from bench.plan.registry import Registry
from bench.training.evaluation import outputs_of

CPU = torch.device("cpu")
NOWHERE = Path("/nowhere")


def of_seed(seed: int, kind: type[SparseRegression] = SparseRegression) -> SparseRegression:
    drawn = kind().for_seed(seed)
    assert isinstance(drawn, SparseRegression)
    return drawn


def together(dataset: Dataset) -> tuple[Tensor, Tensor]:
    split = dataset.load(NOWHERE)
    parts = [p for p in (split.train, split.validation, split.test) if isinstance(p, Images)]
    x = torch.cat([p.x for p in parts]).flatten(1).double()
    return x, torch.cat([p.y for p in parts]).double()


def test_the_truth_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = of_seed(7)
    torch.manual_seed(2)
    again = SparseRegression(7)
    assert torch.equal(first.weights, again.weights)
    assert torch.equal(together(first)[0], together(again)[0])
    assert torch.equal(first.weights, of_seed(7, NoisyRegression).weights)
    assert len({tuple(of_seed(s).weights.tolist()) for s in range(50)}) == 50
    assert len({float(together(of_seed(s))[0][0, 0]) for s in range(10)}) == 10
    assert Registry().dataset("sparse-regression").for_seed(7).relevant is not None


@pytest.mark.parametrize("kind", [SparseRegression, NoisyRegression])
def test_parts_have_the_sizes_of_the_script_and_share_no_sample(
    kind: type[SparseRegression],
) -> None:
    split = of_seed(0, kind).load(NOWHERE)
    sizes = [len(p) for p in (split.train, split.validation, split.test)]
    assert sizes == [500, 100, 500]
    x, y = together(of_seed(0, kind))
    assert (x.shape, y.shape) == ((1100, 20), (1100, 1))
    assert len({tuple(row) for row in x.tolist()}) == 1100
    for part in (split.train, split.validation, split.test):
        assert isinstance(part, Images)
        check_images(part, (1, 1, 20), 1, kind.name)
        assert part.x.dtype == part.y.dtype == torch.float32


def test_inputs_and_weights_are_normal_with_spread_ten() -> None:
    x, _ = together(of_seed(3))
    n = x.numel()
    assert abs(float(x.mean())) < 5 * 10 / math.sqrt(n)
    assert float(x.std()) == pytest.approx(10, rel=5 / math.sqrt(2 * n))
    assert float((x.T @ x / len(x) / 100 - torch.eye(20)).abs().max()) < 6 / math.sqrt(len(x)) * 2
    weights = torch.cat([d.weights[d.relevant] for d in map(of_seed, range(600))])
    assert float(weights.std()) == pytest.approx(10, rel=0.12)
    assert abs(float(weights.mean())) < 1.5


def test_targets_are_sums_of_the_relevant_inputs_exactly() -> None:
    for seed in range(5):
        dataset = of_seed(seed)
        x, y = together(dataset)
        w = dataset.weights.double()
        assert float((y[:, 0] - x @ w).abs().max()) < 1e-3 * 1e-1 * float(y.abs().max())
        x[:, ~dataset.relevant] = 0
        assert float((y[:, 0] - x @ w).abs().max()) < 1e-4 * float(y.abs().max())
        solved = torch.linalg.lstsq(together(dataset)[0], y).solution[:, 0]
        assert float((solved - w).abs().max()) < 1e-5


def test_noise_is_of_variance_one_and_independent_of_the_truth() -> None:
    noisy, plain = of_seed(4, NoisyRegression), of_seed(4)
    x, y = together(noisy)
    assert torch.equal(x, together(plain)[0])
    noise = y[:, 0] - x @ noisy.weights.double()
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(2 * len(noise)))
    assert abs(float(noise.mean())) < 5 / math.sqrt(len(noise))


def test_places_may_collide_as_often_as_in_the_script() -> None:
    counts = [int(of_seed(seed).relevant.sum()) for seed in range(1000)]
    assert set(counts) == {1, 2}
    share = counts.count(1) / 1000
    assert abs(share - 1 / 20) < 4 * math.sqrt(0.05 * 0.95 / 1000)
    seen = torch.stack([of_seed(seed).relevant for seed in range(1000)]).sum(0)
    assert int(seen.min()) > 50  # every place is drawn, about a hundred times
    collided = of_seed(counts.index(1))
    assert torch.equal(collided.relevant, collided.weights != 0)
    x, y = together(collided)
    assert float((y[:, 0] - x @ collided.weights.double()).abs().max()) < 1e-4 * float(
        y.abs().max()
    )


@pytest.mark.parametrize("size", [1, 7, 100, 512])
def test_resident_and_streamed_numbers_are_the_same(size: int) -> None:
    dataset = of_seed(2)
    images = dataset.load(NOWHERE).validation
    resident = Part.of(images, dataset, None, CPU)
    streamed = Part.of(images, dataset, None, CPU, resident_bytes=0, workers=0)
    assert type(resident.source) is not type(streamed.source)
    assert resident.digest == streamed.digest
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    draws = (size, order, Augment(), 0, 0)
    for ways in (
        (resident.batches(size), streamed.batches(size)),
        (resident.training_batches(*draws), streamed.training_batches(*draws)),
    ):
        pairs = list(zip(*ways, strict=True))
        assert len(pairs) == -(-100 // size)
        for (x, y), (other_x, other_y) in pairs:
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)
            assert x.dtype == y.dtype == torch.float32
            expected = x.flatten(1).double() @ dataset.weights.double()
            assert float((y[:, 0] - expected).abs().max()) < 1e-3  # numbers as stored, in step
    assert isinstance(images, Images)
    assert torch.equal(torch.cat([x for x, _ in resident.batches(33)]), images.x)


def test_an_autoencoders_targets_are_its_own_pixels() -> None:
    dataset = Mnist5kPixels()
    assert (dataset.task, dataset.shape) == (AUTOENCODER, (1, 28, 28))
    images = dataset.load(NOWHERE).validation
    assert isinstance(images, Images)
    part = Part.of(images, dataset, None, CPU)
    x, y = part.batch(torch.tensor([5, 0, 9]))
    stored = images.x[[5, 0, 9]].float() / 255
    assert torch.allclose(x, stored, atol=1e-7)
    assert torch.equal(y, x.flatten(1))
    x.mul_(-1)  # a network may work in place
    assert float(y.min()) >= 0
    assert torch.allclose(y, stored.flatten(1), atol=1e-7)
    labels = Part.of(images, Mnist5k(), None, CPU)
    assert labels.digest != part.digest
    for kind in (MnistPixels, FashionPixels):
        assert (kind.task, kind.mean, kind.std) == (AUTOENCODER, (0.0,), (1.0,))


def test_an_autoencoder_needs_no_labels_that_mean_anything() -> None:
    dataset = Mnist5kPixels()
    images = dataset.load(NOWHERE).validation
    assert isinstance(images, Images)
    nonsense = dataclasses.replace(images, y=torch.zeros_like(images.y))
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 784))
    first, second = (outputs_of(model, Part.of(i, dataset, None, CPU)) for i in (images, nonsense))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_numbers_are_cut_short_in_a_smoke_run_without_classes() -> None:
    split = shrink_for_smoke(of_seed(1).load(NOWHERE))
    assert [len(p) for p in (split.train, split.validation, split.test)] == [500, 100, 256]
    whole = of_seed(1).load(NOWHERE).test
    assert isinstance(split.test, Images)
    assert isinstance(whole, Images)
    assert torch.equal(split.test.x, whole.x[:256])
    assert torch.equal(split.test.y, whole.y[:256])


def test_samples_that_are_not_what_is_declared_are_refused() -> None:
    x, y = torch.randn(4, 1, 1, 20), torch.randn(4, 2)
    shape, classes = (1, 1, 20), 2
    check_images(Images(x, y), shape, classes, "mine")
    wrong = {
        "bytes": Images(x.to(torch.uint8), y),
        "doubles": Images(x.double(), y),
        "floats with labels": Images(x, torch.zeros(4, dtype=torch.int64)),
        "one number": Images(x, y[:, :1]),
        "a bare row": Images(x, y[:, 0]),
        "too few": Images(x[:3], y),
        "none": Images(x[:0], y[:0]),
        "another shape": Images(x.view(4, 1, 20, 1), y),
        "NaN in targets": Images(x, y.index_fill(0, torch.tensor([2]), math.nan)),
        "infinite targets": Images(x, y.index_fill(0, torch.tensor([2]), math.inf)),
        "NaN in inputs": Images(x.index_fill(0, torch.tensor([2]), math.nan), y),
        "double targets": Images(x, y.double()),
    }
    accepted = []
    for what, images in wrong.items():
        try:
            check_images(images, shape, classes, "mine")
        except DataDamaged as error:
            assert str(error).startswith("mine: "), what
        else:
            accepted.append(what)
    assert accepted == []
    assert SparseRegression.task == REGRESSION


# -- inputs and supports ---------------------------------------------------------------------------


class Halves(nn.Module):
    """Two branches that read different inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(10, 4), nn.Linear(10, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.c(torch.relu(torch.cat([self.a(x[:, :10]), self.b(x[:, 10:])], 1)))


class Both(nn.Module):
    """Two branches that read the same inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(20, 4), nn.Linear(20, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        return self.c(torch.relu(torch.cat([self.a(x), self.b(x)], 1)))


RELEVANT = torch.isin(torch.arange(20), torch.tensor([3, 7]))


def keeping(shape: tuple[int, int], *columns: int) -> Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[:, list(columns)] = True
    return mask


def test_the_support_is_what_any_branch_reads() -> None:
    layout = layout_of(Both(), torch.zeros(1, 1, 1, 20))
    masks = {"a.weight": keeping((4, 20), 3), "b.weight": keeping((4, 20), 3, 12)}
    assert support(layout, masks, RELEVANT).as_json() == {
        "support_true": 2, "support_read": 2, "support_missed": 1, "support_exact": False,
    }  # fmt: skip
    masks["b.weight"] = keeping((4, 20), 7)
    assert support(layout, masks, RELEVANT).support_exact is True
    masks["c.weight"] = keeping((1, 8), 0, 1, 2, 3)  # nothing leaves branch b: 7 is not read
    assert support(layout, masks, RELEVANT).support_missed == 1


def test_no_support_where_layers_read_different_inputs() -> None:
    layout = layout_of(Halves(), torch.zeros(1, 1, 1, 20))
    assert support(layout, {}, RELEVANT).as_json() == {}
    assert "input" not in live(layout, {})


def test_a_layer_behind_an_unknown_operation_reads_no_inputs_of_the_network() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(20, 20), nn.LayerNorm(20), nn.Linear(20, 1))
    layout = layout_of(model, torch.zeros(1, 1, 1, 20))
    masks = {"1.weight": keeping((20, 20), 3, 7)}
    told = support(layout, masks, RELEVANT).as_json()
    assert told in ({}, {"support_true": 2, "support_read": 2, "support_missed": 0,
                         "support_exact": True})  # fmt: skip


def test_channels_are_no_support_of_inputs() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(72, 1))
    layout = layout_of(model, torch.zeros(1, 1, 1, 20))
    assert support(layout, {}, RELEVANT).as_json() == {}
