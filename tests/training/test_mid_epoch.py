"""A training that is stopped after any batch and goes on ends bit for bit where it would have ended."""

import copy
import dataclasses
import shutil
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import Blobs, MakeTrial
from torch import Generator, Tensor, nn

from bench.data.batches import Part
from bench.methods import _population as evolve
from bench.methods.edropout import Evolution
from bench.store.phase_cache import PhaseStore
from bench.store.phase_records import Progress
from bench.training.callback_fields import pack
from bench.training.contract import Callback, Mode, Trial
from bench.training.loop import Training
from bench.training.trial import RunningTrial
from bench.training.trial_records import TrainingArguments

EPOCHS, IMAGES = 2, 192
AUGMENT = "flip+crop+cutout"


def dropping() -> nn.Module:
    """Convolutions with BatchNorm, and Dropout of maps and of single values."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3, padding=1), bn1=nn.BatchNorm2d(4), relu1=nn.ReLU(),
            drop1=nn.Dropout2d(0.2), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 6, 3, padding=1), bn2=nn.BatchNorm2d(6), relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2), flatten=nn.Flatten(), fc1=nn.Linear(24, 10),
            bn3=nn.BatchNorm1d(10), relu3=nn.ReLU(), drop2=nn.Dropout(0.3), fc2=nn.Linear(10, 4),
        )
    )  # fmt: skip


@dataclass
class Roam(Callback):
    """Draws masks of units, keeps every kind of state, logs, and draws from Dropout's generator."""

    generator: Generator
    batches: int = 0
    history: tuple[float, ...] = ()
    average: Tensor | None = None
    last: str = field(default="")

    def batch(self, trial: Trial, x: Tensor, y: Tensor) -> None:
        if self.batches % 3 == 0:
            for site in trial.layout.sites:
                lots = torch.rand(site.size, generator=self.generator)
                trial.masks[site.name] = lots < lots.median() + 0.3
            trial.log(drawn=self.batches, pixel=float(x[0, 0, 0, 0]))
        self.batches += 1

    def penalty(self, trial: Trial) -> Tensor:
        noise = torch.rand(())  # of the global generator
        return 1e-3 * noise * trial.model.fc2.weight.square().sum()

    def step(self, trial: Trial, lr: float) -> None:
        weight = trial.model.conv2.weight.detach()
        self.average = weight.clone() if self.average is None else 0.9 * self.average + weight
        self.history = (*self.history[-2:], lr)

    def epoch(self, trial: Trial, done: int) -> None:
        self.last = f"epoch {done}"


def roaming(trial: Trial) -> Callback:
    return Roam(trial.rng("roam"))


def evolving(trial: Trial) -> Callback:
    """What methods/edropout.py trains with; it evolves until after the first epoch."""
    sites = tuple(site.name for site in trial.layout.sites)
    sizes = tuple(site.size for site in trial.layout.sites)
    generator = trial.rng("edropout")
    states = evolve.first_population(4, sum(sizes), 0.5, generator)
    states = evolve.repair(states, list(sizes), generator)
    return Evolution(
        sites, sizes, 0.9, 0.5, "diff", False, EPOCHS, 0.01, generator, states,
        torch.full((4,), torch.inf),
    )  # fmt: skip


def untouched(trial: Trial) -> None:
    return None


def masked_from_the_start(trial: Trial) -> None:
    for site in trial.layout.sites:
        mask = torch.ones(site.size, dtype=torch.bool)
        mask[::3] = False
        trial.masks[site.name] = mask


MakeCallback = Callable[[Trial], Callback | None]
CASES: list[tuple[Mode, str, MakeCallback, int]] = [
    ("hard", "sgd", untouched, 32), ("hard", "adam", untouched, 50), ("soft", "sgd", untouched, 32),
    ("soft", "adam", roaming, 50), ("gate", "sgd", untouched, 64), ("hard", "sgd", roaming, 50),
    ("hard", "adam", roaming, 32), ("gate", "sgd", roaming, 50), ("gate", "adam", roaming, 32),
    ("gate", "adadelta", roaming, 64), ("gate", "sgd", evolving, 32), ("gate", "adam", evolving, 64),
]  # fmt: skip


def exact(tensor: Tensor) -> bytes:
    """The bytes: -0.0 is not 0.0, and a NaN is itself."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().tobytes()


def raw(tensor: Tensor) -> bytes:
    """The bytes, but for the sign of a zero."""
    return exact(tensor + 0.0 if tensor.is_floating_point() else tensor)


def outcome(
    trial: Trial, callback: Callback | None, raw: Callable[[Tensor], bytes] = raw
) -> dict[str, Any]:
    cost = trial._ledger.cost.as_json()
    assert cost.pop("seconds") > 0
    plain, tensors = pack(callback)
    return {
        "model": {k: raw(v) for k, v in trial.model.state_dict().items()},
        "masks": {k: raw(v) for k, v in trial.masks.touched.items()},
        "callback": (plain, {k: raw(v) for k, v in tensors.items()}),
        "log": trial._events, "cost": cost, "at_floor": trial.masks.at_floor,
        "dense": trial.masks.compression,
    }  # fmt: skip


def run(
    make_trial: MakeTrial,
    case: tuple[Mode, str, MakeCallback, int],
    raw: Callable[[Tensor], bytes] = raw,
) -> tuple[Trial, dict[str, Any]]:
    """Train anew, or go on from what lies in the store."""
    mode, optimizer, make_callback, batch_size = case
    trial = make_trial(dropping, seed=3, optimizer=optimizer, lr=0.02, epochs=EPOCHS,
                       batch_size=batch_size, augment=AUGMENT)  # fmt: skip
    if make_callback is untouched:
        masked_from_the_start(trial)
    callback = make_callback(trial)
    torch.manual_seed(len(list(trial._inputs.store.folder.iterdir())))  # whoever came before
    torch.rand(7)
    trial.train(mode=mode, callback=callback)
    return trial, outcome(trial, callback, raw)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1]}-{c[2].__name__}-{c[3]}")
def test_a_training_goes_on_bit_for_bit_from_any_batch(
    case: tuple[Mode, str, MakeCallback, int],
    make_trial: MakeTrial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_after_every_batch(case, make_trial, tmp_path, monkeypatch, raw)


# A product with a mask leaves -0.0 for a negative weight, where zeroing leaves 0.0. Where a dropped unit
# is switched on again the sign lasts, and every later phase has another key.
@pytest.mark.parametrize("case", [("hard", "sgd", roaming, 32), ("hard", "adam", roaming, 32)],
                         ids=lambda c: c[1])  # fmt: skip
def test_a_training_goes_on_to_the_same_bytes_zeros_included(
    case: tuple[Mode, str, MakeCallback, int],
    make_trial: MakeTrial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop_after_every_batch(case, make_trial, tmp_path, monkeypatch, exact)


def stop_after_every_batch(
    case: tuple[Mode, str, MakeCallback, int],
    make_trial: MakeTrial,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    raw: Callable[[Tensor], bytes],
) -> None:
    """Compare a whole training with those that go on from each of its checkpoints."""
    saved: list[Path] = []
    original = PhaseStore.save_progress

    def keep(self: PhaseStore, key: str, record: Any, tensors: Any) -> None:
        original(self, key, record, tensors)
        copied = tmp_path / f"saved{len(saved)}" / f"{key}.safetensors"
        copied.parent.mkdir()
        shutil.copy(self._progress(key), copied)
        saved.append(copied)

    monkeypatch.setattr(PhaseStore, "save_progress", keep)
    _, whole = run(make_trial, case, raw)
    monkeypatch.undo()
    steps = -(-IMAGES // case[3])
    assert len(saved) == EPOCHS * steps - 1
    assert whole["cost"]["optimizer_steps"] == EPOCHS * steps
    assert whole["masks"]
    for number, file in enumerate(saved):
        shutil.rmtree(tmp_path / "phases")
        (tmp_path / "phases" / "progress").mkdir(parents=True)
        shutil.copy(file, tmp_path / "phases" / "progress" / file.name)
        trial, again = run(make_trial, case, raw)
        epoch = (number + 1) // steps
        assert trial._ledger.work.epochs == EPOCHS - epoch, "it began anew"
        for what in whole:
            assert again[what] == whole[what], f"{what} after batch {number + 1}"
        assert not list((tmp_path / "phases" / "progress").iterdir())


@pytest.mark.parametrize("mode", ["hard", "gate", "soft"])
def test_a_fresh_training_resumed_in_memory_is_the_same_training(
    mode: Mode, make_trial: MakeTrial
) -> None:
    def training() -> tuple[Training, Callback]:
        trial = make_trial(dropping, seed=3, augment=AUGMENT, epochs=EPOCHS)
        callback = roaming(trial)
        job = TrainingArguments(
            trial._inputs.recipe, 3, 0, 0, EPOCHS, EPOCHS, 1.0, None, mode, trial.loss
        )
        made = Training(job, trial.model, trial.layout, trial.masks, trial._inputs.train,
                        callback, trial)  # fmt: skip
        trial._open_log = made.progress.log
        return made, callback

    def ended(now: Training, callback: Callback) -> Any:
        tensors = {k: raw(v) for k, v in now.state().items()}
        progress = now.progress.as_json()
        del progress["cost"]["seconds"]
        return tensors, progress, pack(callback)[0]

    states: list[tuple[Progress, dict[str, Tensor]]] = []

    def keep(now: Training) -> None:
        tensors = {k: v.clone() for k, v in now.state().items()}  # as_json needs state first
        states.append((copy.deepcopy(now.progress), tensors))

    whole, callback = training()
    whole.run(keep)
    expected = ended(whole, callback)
    assert {record.step for record, _ in states} == {0, 1, 2, 3, 4, 5}
    for record, tensors in states:
        again, other = training()
        again.resume(copy.deepcopy(record),
                     {k: v.clone() for k, v in tensors.items()})  # fmt: skip
        again.trial._open_log = again.progress.log
        torch.manual_seed(12345)
        again.run(lambda now: None)
        assert ended(again, other) == expected, (record.epoch, record.step)


def test_it_goes_on_from_streamed_images_as_from_resident_ones(
    make_trial: MakeTrial, tmp_path: Path
) -> None:
    def trial_on(resident_bytes: int) -> tuple[Trial, Callback]:
        made = make_trial(dropping, seed=3, augment=AUGMENT, epochs=EPOCHS)
        part = Part.of(Blobs().load(tmp_path).train, Blobs(), None, torch.device("cpu"),
                       resident_bytes=resident_bytes)  # fmt: skip
        made._image_counter.remove()
        trial = RunningTrial(made.model, made.layout, dataclasses.replace(made._inputs, train=part))
        return trial, roaming(trial)

    trial, callback = trial_on(10**9)
    trial.train(callback=callback)
    whole = outcome(trial, callback)
    shutil.rmtree(tmp_path / "phases")
    trial, callback = trial_on(0)
    calls = 0
    original = PhaseStore.save_progress

    def stop(self: PhaseStore, key: str, record: Any, tensors: Any) -> None:
        nonlocal calls
        original(self, key, record, tensors)
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PhaseStore, "save_progress", stop)
        with pytest.raises(KeyboardInterrupt):
            trial.train(callback=callback)
    trial, callback = trial_on(0)
    trial.train(callback=callback)
    assert outcome(trial, callback) == whole


def test_taking_the_state_changes_nothing(make_trial: MakeTrial, tmp_path: Path) -> None:
    """With a checkpoint after every batch and with none at all the training is the same."""
    outcomes = []
    for seconds in (0.0, 1e9):
        shutil.rmtree(tmp_path / "phases", ignore_errors=True)
        trial = make_trial(dropping, seed=3, augment=AUGMENT, epochs=EPOCHS)
        object.__setattr__(trial._inputs, "checkpoint_seconds", seconds)
        callback = roaming(trial)
        trial.train(callback=callback)
        outcomes.append(outcome(trial, callback))
    assert outcomes[0] == outcomes[1]


@dataclass
class Nudge(Callback):
    """Writes into all weights after each step, as a proximal step or a codebook does."""

    sums: tuple[float, ...] = ()

    def step(self, trial: Trial, lr: float) -> None:
        with torch.no_grad():
            trial.model.fc1.weight.add_(0.01)

    def gradients(self, trial: Trial) -> None:
        rows = ~trial.masks["fc1"]
        self.sums = (*self.sums, float(trial.model.fc1.weight[rows].detach().abs().max()))


def test_what_a_callback_writes_into_dropped_weights_does_not_pile_up(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(dropping, epochs=1)
    masked_from_the_start(trial)
    callback = Nudge()
    trial.train(callback=callback)
    assert max(callback.sums) < 0.015
    assert not trial.model.fc1.weight[~trial.masks["fc1"]].any()


def test_an_epoch_whose_last_image_is_left_out_goes_on_too(
    make_trial: MakeTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 192 = 2 x 95 + 2 and 1 more than 191: the second has no statistics for its last batch.
    case: tuple[Mode, str, MakeCallback, int] = ("hard", "sgd", roaming, 191)
    _, whole = run(make_trial, case)
    assert whole["cost"]["optimizer_steps"] == EPOCHS
    assert whole["cost"]["images_seen"] == EPOCHS * 191


def test_a_damaged_progress_file_means_beginning_anew(
    make_trial: MakeTrial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[0]
    kept: list[str] = []
    original = PhaseStore.save_progress

    def keep(self: PhaseStore, key: str, record: Any, tensors: Any) -> None:
        kept.append(key)
        original(self, key, record, tensors)

    monkeypatch.setattr(PhaseStore, "save_progress", keep)
    _, whole = run(make_trial, case)
    shutil.rmtree(tmp_path / "phases")
    (tmp_path / "phases" / "progress").mkdir(parents=True)
    (tmp_path / "phases" / "progress" / f"{kept[0]}.safetensors").write_bytes(b"half a file")
    trial, again = run(make_trial, case)
    assert trial._ledger.work.epochs == EPOCHS
    assert again == whole


def test_progress_survives_the_store(tmp_path: Path, make_trial: MakeTrial) -> None:
    """Every field and every tensor, odd numbers among them, comes back as it was."""
    store = PhaseStore(tmp_path / "store")
    progress = Progress(epoch=3, step=5, log=[{"epoch": 3, "train_loss": 0.1 + 0.2}], at_floor=True)
    progress.callback = {"x": float("inf"), "y": (1, (2.5, "z"))}
    progress.cost.images_seen, progress.cost.seconds = 17, 1.25
    tensors = {"epoch/sums": torch.tensor([1.5, float("nan"), float("inf")], dtype=torch.float64),
               "epoch/random": torch.get_rng_state(), "mask/a": torch.tensor([True, False]),
               "optimizer/w/step": torch.tensor(3.0),
               "model/w": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)}  # fmt: skip
    store.save_progress("k", progress, tensors)
    loaded = store.load_progress("k")
    assert loaded is not None
    again = loaded.record
    assert (again.epoch, again.step, again.at_floor) == (3, 5, True)
    assert (again.log, again.cost) == (progress.log, progress.cost)
    assert again.callback == {"x": float("inf"), "y": [1, [2.5, "z"]]}
    assert {k: raw(v) for k, v in loaded.tensors.items()} == {k: raw(v) for k, v in tensors.items()}
