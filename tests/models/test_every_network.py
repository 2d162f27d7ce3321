"""Every shipped network takes a training step and a pruning on real images that fit it."""

import os
from pathlib import Path

import pytest
import torch

from bench.data.batches import Part
from bench.data.images import Images
from bench.data.streaming import decoded
from bench.graph.count import count
from bench.plan.build_network import build
from bench.plan.plugins import shipped
from bench.plan.registry import Registry
from bench.pruning.masks import Masks
from bench.seeds import generator
from bench.store.phase_cache import PhaseStore
from bench.training.contract import Trial
from bench.training.loop import Training
from bench.training.network import about
from bench.training.trial import RunningTrial
from bench.training.trial_records import TrainingArguments, TrialInputs

pytestmark = pytest.mark.skipif(
    "BENCH_TEST_DATA" not in os.environ,
    reason="BENCH_TEST_DATA names no folder of data sets in torchvision's layout",
)
CPU = torch.device("cpu")
DIGITS = ("mnist", "fashion", "kuzushiji", "digits")
SMALL = ("cifar10", "tiny-imagenet", "fashion")
PHOTOS = ("imagenette", "flowers", "cifar10")
IMAGES = 4


def fitting(model: str) -> tuple[str, ...]:
    """Data sets whose pictures a network was made for."""
    side = about(Registry().model(model)).input_size
    if side is None:
        return DIGITS
    return DIGITS[:3] if side == 28 else SMALL if side == 32 else PHOTOS


MODELS = [entry.name for entry in shipped("models")]
QUICK = {
    "lenet-5",
    "resnet-20",
    "squeezenet",
}  # a picture of each size; the others are many or large
PAIRS = [(m, fitting(m)[i % len(fitting(m))]) for i, m in enumerate(MODELS)]
TIERED = [pytest.param(*p, marks=[] if p[0] in QUICK else pytest.mark.slow) for p in PAIRS]


@pytest.fixture(scope="module")
def parts() -> dict[str, Images]:
    return {}


def a_few(dataset: str, known: dict[str, Images]) -> Images:
    """The first training images of a data set, decoded."""
    if dataset not in known:
        split = Registry().dataset(dataset).load(Path(os.environ["BENCH_TEST_DATA"]))
        few = split.train.take(torch.arange(IMAGES))
        known[dataset] = few if isinstance(few, Images) else Images(decoded(few, 0), few.y)
    return known[dataset]


def test_every_data_set_of_pictures_is_used() -> None:
    used = {dataset for _, dataset in PAIRS}
    assert used == {*DIGITS, *SMALL, *PHOTOS}


@pytest.mark.parametrize(("model", "dataset"), TIERED)
def test_a_step_a_pruning_and_another_step(
    model: str, dataset: str, parts: dict[str, Images], tmp_path: Path
) -> None:
    images = Registry().dataset(dataset)
    network, layout = build(Registry(), model, images, seed=0)
    size = about(Registry().model(model)).input_size
    part = Part.of(a_few(dataset, parts), images, size, CPU)
    recipe = about(Registry().model(model)).recipe
    setting = TrialInputs(recipe, 0, None, part, part, PhaseStore(tmp_path), {})
    trial = RunningTrial(network, layout, setting)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    step(trial)
    assert any(not torch.equal(p, before[n]) for n, p in network.named_parameters())
    halve_units(trial.masks)
    halve_weights(trial)
    step(trial)
    for name, mask in trial.masks.touched.items():
        if name in layout.weights:
            assert not network.get_parameter(name)[~mask].any()
    for layer, lives in layout.units(trial.masks).items():
        assert not network.get_parameter(f"{layer}.weight")[~lives].any()
    account = count(layout, trial.masks.touched)
    assert account.params_dense == sum(p.numel() for p in network.parameters())
    assert account.params_kept < 0.8 * account.params_dense
    with torch.no_grad():
        assert torch.isfinite(network.eval()(part.batch(torch.arange(IMAGES))[0])).all()


def step(trial: Trial) -> None:
    recipe = trial._inputs.recipe
    job = TrainingArguments(recipe, 0, 0, 0, 1, 1, 0.01, None, "hard", trial.loss)
    part = trial._inputs.train
    Training(job, trial.model, trial.layout, trial.masks, part, None, trial).run(lambda now: None)


def halve_units(masks: Masks) -> None:
    lots = {
        site.name: torch.rand(site.size, generator=generator(0, site.name))
        for site in masks.layout.sites
        if not site.is_input
    }
    if lots:
        masks.drop_lowest(lots, 0.3)


def halve_weights(trial: Trial) -> None:
    weights = {n: trial.model.get_parameter(n).detach().abs() for n in trial.layout.weights}
    masks = {n: w >= w.mean() for n, w in weights.items()}
    for name, mask in masks.items():
        trial.masks[name] = mask
