"""Measure the cost of our trainer over a bare loop that computes the same numbers, and of masks.

    python benchmarks/trainer_overhead.py

Both loops start from the same weights and see the same batches in the same order; their final
weights must be equal to the last bit, or the script stops. What masks cost is measured in the bare
loop with the harness's own masking in it, by a clock around it: the share of a step that it takes is
smaller than what two laps differ by on a shared machine. The ratio of such laps stands beside it.
Taking up masks happens once a training, and would weigh too much in a lap of a few steps. It is in
the last ratio, which like the one before has no bound.
"""

import argparse
import copy
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import Spread, Variant
from torch import Tensor
from torch.nn.functional import cross_entropy

from bench.api import Dataset, Images, Split
from bench.data.batches import Part
from bench.plan.build_network import build
from bench.plan.registry import Registry
from bench.pruning.hard_mask import HardMask
from bench.pruning.masks import Masks
from bench.seeds import generator
from bench.store.phase_cache import PhaseStore
from bench.sweep.machine import matmul_precision
from bench.training.loop import load_model
from bench.training.recipe import Recipe
from bench.training.trial import RunningTrial, run_training
from bench.training.trial_records import TrainingArguments, TrialInputs

SEED = 0
OURS, OURS_MASKED = "our trainer", "our trainer, half masked"
BARE, BARE_MASKED = "bare loop", "bare loop, half masked"


@dataclass(frozen=True)
class Task:
    """A network, how it is trained, and the most the trainer may add to a step."""

    title: str
    model: str
    shape: tuple[int, int, int]
    recipe: Recipe
    most_overhead: float


LENET = Task("LeNet-300-100, batch 64", "lenet-300-100", (1, 28, 28), Recipe(epochs=1), 0.05)


def resnet(batch_size: int) -> Task:
    """Return ResNet-18 on CIFAR's pictures; a step takes minutes on a CPU without bf16 of its own."""
    recipe = Recipe(epochs=1, batch_size=batch_size, precision="bf16")
    return Task(f"ResNet-18, bf16, batch {batch_size}", "resnet-18", (3, 32, 32), recipe, 0.01)


MOST_FOR_MASKS = 0.02


def random_images(task: Task, n: int) -> Images:
    draw = torch.Generator().manual_seed(SEED)
    x = torch.randint(256, (n, *task.shape), dtype=torch.uint8, generator=draw)
    return Images(x, torch.randint(10, (n,), generator=draw))


def make_trial(task: Task, images: Images, folder: Path) -> RunningTrial:
    """Return a trial of a fresh network on these images."""

    class Random(Dataset):
        name = "random"
        shape, classes = task.shape, 10
        mean, std = (0.5,) * task.shape[0], (0.25,) * task.shape[0]

        def load(self, root: Path) -> Split:
            raise NotImplementedError

    dataset = Random()
    model, layout = build(Registry(), task.model, dataset, SEED)
    part = Part.of(images, dataset, None, torch.device("cpu"))
    store = PhaseStore(folder)
    inputs = TrialInputs(task.recipe, SEED, None, part, part, store, environment={})
    return RunningTrial(model, layout, inputs)


class OurTraining:
    """One epoch of the harness's trainer, always from the same weights."""

    def __init__(self, task: Task, images: Images, folder: Path, masked: bool) -> None:
        self.task, self.trial = task, make_trial(task, images, folder)
        self.start = {k: v.clone() for k, v in self.trial.model.state_dict().items()}
        if masked:
            draw = torch.Generator().manual_seed(SEED)
            for name, shape in self.trial.layout.weights.items():
                self.trial.masks[name] = torch.rand(shape, generator=draw) < 0.5

    def prepare(self) -> None:
        load_model(self.trial.model, self.start)

    def run(self) -> None:
        arguments = TrainingArguments(
            recipe=self.task.recipe, seed=SEED, clock=0, start=0, stop=1, epochs=1, lr_scale=1.0,
            trainable=None, mode="hard", loss=cross_entropy,
        )  # fmt: skip
        run_training(self.trial, "never saved", arguments, None)


class BareLoop:
    """The same epoch with nothing around it: no figures, no checks; masks only where asked for."""

    mean, std = 0.5 * 255, 0.25 * 255

    def __init__(
        self, task: Task, images: Images, like: RunningTrial, masks: Masks | None = None
    ) -> None:
        self.recipe, self.images = task.recipe, images
        self.model = copy.deepcopy(like.model)
        self.model._forward_pre_hooks.clear()  # the trial's counter
        self.start = {k: v.clone() for k, v in like.model.state_dict().items()}
        self.channels_last = like.layout.has_convolutions
        self.masks = masks
        self.hard: HardMask | None = None
        self.shares: list[float] = []  # of each lap, what masking took

    def prepare(self) -> None:
        load_model(self.model, self.start)
        if self.masks is not None:
            self.hard = HardMask(self.model, self.masks)
            self.hard.follow(torch.optim.SGD(self.model.parameters()))  # one that has no state yet

    def run(self) -> None:
        recipe, model, pixels, labels = self.recipe, self.model, self.images.x, self.images.y
        optimizer = torch.optim.SGD(
            model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov, fused=True,
        )  # fmt: skip
        order = torch.randperm(len(labels), generator=generator(SEED, "order", 0))
        batches = torch.split(order, recipe.batch_size)
        model.train()
        began, in_masks = time.perf_counter(), 0.0
        for step, index in enumerate(batches):
            cosine = 0.5 * (1 + math.cos(math.pi * (step / len(batches))))
            optimizer.param_groups[0]["lr"] = recipe.lr * cosine
            x = pixels.index_select(0, index).float().sub_(self.mean).div_(self.std)
            if self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, recipe.precision == "bf16"):
                logits = model(x)
            loss = cross_entropy(logits.float(), labels.index_select(0, index))
            loss.backward()  # type: ignore[no-untyped-call]
            if self.hard is not None:
                before = time.perf_counter()
                self.hard.before_step()
                in_masks += time.perf_counter() - before
            optimizer.step()
        self.shares.append(in_masks / (time.perf_counter() - began))


def check_equal(title: str, ours: OurTraining, bare: BareLoop, report: Report) -> None:
    """Run both once and compare every weight and buffer.

    Raises:
        SystemExit: they differ.
    """
    for side in (ours, bare):
        side.prepare()
        side.run()
    other: dict[str, Tensor] = bare.model.state_dict()
    state = ours.trial.model.state_dict()
    different = [name for name, value in state.items() if not torch.equal(value, other[name])]
    if different:
        raise SystemExit(f"{title}: the two loops end in different {', '.join(different)}")
    moved = sum(not torch.equal(value, ours.start[name]) for name, value in state.items())
    report.note(f"{title}: both loops end in the same weights to the last bit ({moved} tensors)")


def compare(task: Task, steps: int, given: argparse.Namespace, report: Report) -> None:
    images = random_images(task, steps * task.recipe.batch_size)
    with tempfile.TemporaryDirectory() as name:
        ours = OurTraining(task, images, Path(name) / "plain", masked=False)
        masked = OurTraining(task, images, Path(name) / "masked", masked=True)
        bare = BareLoop(task, images, ours.trial)
        bare_masked = BareLoop(task, images, ours.trial, masked.trial.masks)
        check_equal(task.title, ours, bare, report)
        check_equal(f"{task.title}, half masked", masked, bare_masked, report)
        variants = [
            Variant(BARE, bare.run, steps, bare.prepare),
            Variant(OURS, ours.run, steps, ours.prepare),
            Variant(BARE_MASKED, bare_masked.run, steps, bare_masked.prepare),
            Variant(OURS_MASKED, masked.run, steps, masked.prepare),
        ]
        rounds = measured(variants, given)
    report.speeds(task.title, rounds, "steps")
    bound = Bound("<=", 1 + task.most_overhead)
    report.ratio(f"{task.title}: a step of our trainer over a bare one", rounds, OURS, BARE, bound)
    name = f"{task.title}: the share of a step that masks take"
    shares = Spread.of(bare_masked.shares[-given.rounds :])
    report.add(name, rounds, shares, Bound("<=", MOST_FOR_MASKS))
    name = f"{task.title}: a step with masks over one without"
    report.ratio(name, rounds, BARE_MASKED, BARE)
    name = f"{task.title}: {steps} steps of our trainer with masks over as many without"
    report.ratio(name, rounds, OURS_MASKED, OURS)


def main() -> int:
    parser = options(__doc__, rounds=15)
    parser.add_argument("--lenet-steps", type=int, default=800, help="a lap [default: %(default)s]")
    parser.add_argument("--resnet-steps", type=int, default=3, help="a lap [default: %(default)s]")
    parser.add_argument("--resnet-batch", type=int, default=128, help="[default: %(default)s]")
    parser.add_argument("--threads", type=int, default=1, help="[default: 1, as trials run]")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_float32_matmul_precision(matmul_precision())
    report = Report("trainer_overhead", settings_of(given))
    for task, steps in (
        (LENET, given.lenet_steps),
        (resnet(given.resnet_batch), given.resnet_steps),
    ):
        if steps:
            compare(task, steps, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
