"""Masks that overlap, states that are kept, flags that come back: where parts of the harness meet."""

from pathlib import Path

import pytest
import torch
from small_networks import MakeTrial, randomise_norms, small_conv, small_mlp

from bench.data.batches import Part
from bench.data.images import Images
from bench.graph.count import reconnected
from bench.graph.trace import layout_of
from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.pruning.hard_mask import zero
from bench.store.results import Results
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.training.batchnorm import estimate
from bench.training.evaluation import outputs_of

EXAMPLE = torch.zeros(1, 1, 8, 8)


def bits(size: int, *on: int) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[list(on)] = True
    return mask


def test_two_masks_never_cut_the_network_together() -> None:
    layout = layout_of(small_conv(), EXAMPLE)
    fc1 = next(layer for layer in layout.layers if layer.name == "fc1")
    masks = {"conv2": bits(8, 5), "input:fc1": bits(32, 0)}  # filter 5 feeds columns 20 to 23
    alive = layout.input_columns(fc1, masks)
    assert alive is not None
    assert not alive.any()
    mended = reconnected(layout, masks)
    assert mended["input:fc1"].nonzero().flatten().tolist() == [0, 20]
    assert torch.equal(mended["conv2"], masks["conv2"])
    fine = {"conv2": bits(8, 5), "input:fc1": bits(32, 21)}
    assert reconnected(layout, fine) == fine


def test_dropping_to_the_floor_leaves_a_path_through_the_network(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv, target=1e9)
    g = torch.Generator().manual_seed(3)
    for _ in range(20):
        trial.masks.load({})
        scores = {n: torch.rand(trial.masks[n].shape, generator=g) for n in ("conv2", "input:fc1")}
        trial.masks.drop_to(scores, 1e9, "global")
        fc1 = next(layer for layer in trial.layout.layers if layer.name == "fc1")
        alive = trial.layout.input_columns(fc1, trial.masks.touched)
        assert alive is not None
        assert alive.any()


def test_training_flags_come_back_module_by_module(make_trial: MakeTrial) -> None:
    trial = make_trial(small_conv)
    model = trial.model
    model.train()
    model.get_submodule("bn1").eval()  # a frozen normalisation
    before = [m.training for m in model.modules()]
    layout_of(model, EXAMPLE)
    outputs_of(model, trial._inputs.validation)
    estimate(model, trial._inputs.train, 32, seed=0)
    assert [m.training for m in model.modules()] == before


def test_images_that_are_not_square_are_resized(make_trial: MakeTrial) -> None:
    from small_networks import Blobs

    class Wide(Blobs):
        shape = (1, 8, 12)

    images = Images(torch.zeros(3, 1, 8, 12, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    part = Part.of(images, Wide(), 8, torch.device("cpu"))
    assert part.batch(torch.arange(2))[0].shape == (2, 1, 8, 8)


def test_a_last_batch_of_one_image_is_left_out_where_statistics_need_two(
    make_trial: MakeTrial,
) -> None:
    for build, images in ((small_conv, 191), (small_mlp, 192)):
        trial = make_trial(build, batch_size=191, epochs=1)
        trial.train()
        assert trial._ledger.cost.images_seen == images


METHOD = '''
"""Keeps a masked state in the middle of a gated training."""
from dataclasses import dataclass
import torch
from bench.api import Method

@dataclass(frozen=True)
class Keeper(Method):
    rate = "emergent"

    def prune(self, trial):
        mask = torch.ones(20, dtype=torch.bool)
        mask[::2] = False
        trial.masks["fc1"] = mask
        trial.train(mode="gate")
        trial.keep("gated")
'''


def test_a_masked_state_kept_from_a_gated_training_is_measured_under_its_masks(
    tmp_path: Path,
) -> None:
    plugin = tmp_path / "keeper.py"
    plugin.write_text(METHOD)
    registry = Registry([plugin])
    flags = {"methods": "keeper", "models": "fc-20-20", "seeds": "0", "budget": "smoke",
             "controls": "none"}  # fmt: skip
    (spec,) = make_plan(registry, requests(None, flags, [])).trials.values()
    out = tmp_path / "results"
    Results(out).create()
    context = SweepContext(RunConfig(out=out, data_dir=tmp_path, device="cpu", plugins=(plugin,)))
    record = execute(context, spec, lambda done, of: None)
    kept, final = record.kept["gated"].as_json(), record.metrics.as_json()
    assert kept["units"]["fc1"]["kept"] == 10
    # The final state is the same one under the same masks: every column must agree. It is measured
    # on the cut network, whose sums may be rounded otherwise: some CPUs give other last digits.
    losses = {"test_loss", "validation_loss"}
    for name in losses:
        assert kept.pop(name) == pytest.approx(final[name], rel=1e-6)
    assert kept == {name: final[name] for name in kept}


def test_zeroing_takes_rows_biases_normalisation_and_input_columns() -> None:
    model = small_conv()
    randomise_norms(model, 4)
    layout = layout_of(model, EXAMPLE)
    masks = {"conv1": bits(6, 0, 3), "input:fc1": bits(32, *range(0, 32, 3))}
    zero(model, layout, masks)
    assert not model.get_parameter("conv1.weight")[1].any()
    assert not model.get_parameter("bn1.bias")[1].any()
    assert not model.get_parameter("fc1.weight")[:, 1].any()
