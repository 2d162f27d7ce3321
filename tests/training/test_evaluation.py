"""Accuracies and losses against plain loops, at any batch size."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import Blobs, randomise_norms, small_conv
from torch import Tensor, nn

from bench.data.batches import Part
from bench.data.images import Images
from bench.data.tasks.classification import CLASSIFICATION
from bench.training.evaluation import evaluate, outputs_of

CPU = torch.device("cpu")


def part_of(labels: Tensor) -> Part:
    """Pictures whose brightness is their label."""
    x = labels.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    return Part.of(Images(x, labels), Blobs(), None, CPU)


class ReadsBrightness(nn.Module):
    """Its highest logit is the brightness of the picture, plus `shift`."""

    def __init__(self, classes: int, shift: int = 0) -> None:
        super().__init__()
        self.classes, self.shift = classes, shift

    def forward(self, x: Tensor) -> Tensor:
        brightness = (x[:, 0, 0, 0] * 63.75 + 127.5).round().long()
        return nn.functional.one_hot((brightness + self.shift) % self.classes, self.classes).float()


def labels_of(n: int, classes: int, seed: int = 0) -> Tensor:
    return torch.randint(classes, (n,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("batch_size", [1, 7, 128, 10_000])
def test_a_perfect_model_scores_exactly_100_at_any_batch_size(batch_size: int) -> None:
    part = part_of(labels_of(10_000, 10))
    found = evaluate(ReadsBrightness(10), part, batch_size)
    assert (found.top1, found.top3, found.top5, found.n) == (100.0, 100.0, 100.0, 10_000)


@pytest.mark.parametrize("batch_size", [1, 7, 128, 10_000])
def test_one_mistake_in_ten_thousand_is_seen_at_any_batch_size(batch_size: int) -> None:
    labels = labels_of(10_000, 10)
    part = part_of(labels)
    part.y[4321] = (labels[4321] + 1) % 10
    assert evaluate(ReadsBrightness(10), part, batch_size).top1 == 99.99


def test_a_model_that_is_always_wrong_scores_0() -> None:
    assert evaluate(ReadsBrightness(10, shift=1), part_of(labels_of(300, 10))).top1 == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(2, 12), st.integers(0, 10_000))
def test_top_k_equals_a_plain_loop(n: int, classes: int, seed: int) -> None:
    logits = torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))
    labels = labels_of(n, classes, seed)
    hits = {1: 0, 3: 0, 5: 0}
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        better = sum(value > row[label] for value in row)
        for k in hits:
            hits[k] += better < k
    found = CLASSIFICATION.evaluate(logits, labels)
    assert (found.top1, found.top3, found.top5) == tuple(100 * h / n for h in hits.values())


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 200), st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 10_000))
def test_the_loss_is_the_mean_cross_entropy_in_double_precision(
    n: int, scale: float, seed: int
) -> None:
    logits = scale * torch.randn(n, 10, generator=torch.Generator().manual_seed(seed))
    labels = labels_of(n, 10, seed)
    exact = logits.double()
    terms = exact.logsumexp(1) - exact[torch.arange(n), labels]
    found = CLASSIFICATION.evaluate(logits, labels).loss
    assert found == pytest.approx(float(terms.mean()), rel=1e-12, abs=1e-12)
    reference = nn.functional.cross_entropy(exact, labels)
    assert found == pytest.approx(float(reference), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_uses_running_statistics_and_changes_nothing(training: bool) -> None:
    model = small_conv()
    randomise_norms(model)
    model.train(training)
    part = Part.of(Blobs().load(None).test, Blobs(), None, CPU)  # type: ignore[arg-type]
    before = {k: v.clone() for k, v in model.state_dict().items()}
    logits, _ = outputs_of(model, part, 10)
    assert model.training is training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    with torch.no_grad():
        expected = torch.cat([model.eval()(x[None]) for x in part.batch(torch.arange(64))[0]])
    assert torch.allclose(logits, expected, atol=1e-5)
    assert not logits.requires_grad
