"""A trial: the harness's side of the contract.

Every piece of work is a phase under the hash of everything it reads, so the same work is done once,
whoever asks for it: after a kill, for the next target, for another method. The test images are not
here.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Never, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from bench.data.batches import Part
from bench.data.tasks import Evaluation, Loss, Task
from bench.errors import NotInContract, TrialFailed
from bench.graph.structure import Layout
from bench.graph.trace import activations
from bench.pruning.gates import Gates
from bench.pruning.hard_mask import apply_hard
from bench.pruning.masks import REACHED, Masks, same
from bench.seeds import derive, generator, seed_globally
from bench.store import source_hash
from bench.store.json_values import Json, JsonObject
from bench.store.phase_cache import Stored, key_of
from bench.store.phase_records import CallPhase, Cost, LogLine, PhaseRecord, TrainingPhase
from bench.store.records import CurveRecord
from bench.training import batchnorm
from bench.training.built_form import BuiltForm
from bench.training.callback_fields import pack, unpack
from bench.training.contract import Callback, Mode, Reference, State, Trial
from bench.training.evaluation import evaluate, outputs_of, scored
from bench.training.loop import Training, load_model, under
from bench.training.network_facts import Place, changed, facts_of, own_changes, tensors_of
from bench.training.pass_counter import PassCounter
from bench.training.phase_ledger import Ledger
from bench.training.recipe import Recipe
from bench.training.surroundings import NOT_MEASURED, Surroundings
from bench.training.trial_records import KeptState, TrainingArguments, TrialInputs, Work

T = TypeVar("T")


@dataclass(frozen=True)
class TrialOutcome:
    """Everything that a method left behind in its trial.

    Attributes:
        rounds: counts kept, by site or parameter, whenever a training began, and the final ones.
        lr_scale: of the last training that followed a pruning.
        kept: states to be measured beside the final one, by name.
        index_bits: of the file that the network is stored in; None: it is stored in none.
        costs: of the phases that the trial needed, by key; `work` is what this process did of them.
        unreachable: True where the floor was met before the target.
    """

    model: nn.Module
    layout: Layout
    masks: Masks
    rounds: list[dict[str, int]]
    lr_scale: float
    kept: dict[str, KeptState]
    curves: dict[str, CurveRecord]
    index_bits: int | None
    events: list[LogLine]
    costs: dict[str, Cost] = field(repr=False)
    cost: Cost
    work: Work
    unreachable: bool


class RunningTrial(Trial):
    """The trial as the harness runs it. What has no underscore is the contract's."""

    def __init__(self, model: nn.Module, layout: Layout, inputs: TrialInputs) -> None:
        self.model = model
        self.layout = layout
        self.loss: Loss = inputs.train.task.loss
        device = inputs.train.device
        self.masks = Masks(layout, device, self.rng, lambda: self.target)
        self._inputs = inputs
        self._ledger = Ledger(inputs.store)
        self._kept: dict[str, KeptState] = {}
        self._rounds: list[dict[str, int]] = []
        self._lr_scale = 1.0
        self._events: list[LogLine] = []
        self._curves: dict[str, CurveRecord] = {}
        self._index_bits: int | None = None
        self._clock = 0
        self._mode: Mode = "hard"
        self._trained_masks: dict[str, Tensor] = {}
        self._open_log: list[LogLine] | None = None  # of the phase that is running
        self._image_counter = model.register_forward_pre_hook(self._count)
        self._surroundings = Surroundings.of(model)
        self._changes_itself = own_changes(model, _a_few(inputs.train, layout))
        self._built = BuiltForm.of(model, self._facts())
        self._passes = PassCounter()  # of those outside phases
        self._is_counting = False

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Never:
            """Say where the contract stands to whoever looks for something else."""
            raise NotInContract(
                f"a trial has no {name!r}; a method is given what docs/add-a-method.md lists"
            )

    # -- what a method asks ------------------------------------------------------------------

    @property
    def recipe(self) -> Recipe:
        return self._inputs.recipe

    @property
    def task(self) -> Task:
        return self._inputs.train.task

    @property
    def epochs(self) -> int:
        return self._inputs.recipe.epochs

    @property
    def target(self) -> float | None:
        self._ledger.refuse_inside("target")
        return self._inputs.target

    @property
    def at_target(self) -> bool:
        self._ledger.refuse_inside("at_target")
        target = self._inputs.target
        if target is None:
            raise TrialFailed("at_target: this method's rate is emergent, it has no target")
        return self.masks.compression >= target * REACHED or self.masks.at_floor

    @property
    def reference(self) -> Reference | None:
        self._ledger.refuse_inside("reference")
        return self._inputs.reference

    @property
    def has_weights(self) -> bool:
        self._ledger.refuse_inside("has_weights")
        return self._inputs.weights is not None

    # -- work --------------------------------------------------------------------------------

    def pretrained(self) -> None:
        weights = self._inputs.weights
        if weights is not None:
            load_model(self.model, weights.tensors)
        if weights is None or weights.fresh:
            self.train()
        else:
            self._clock = self.epochs

    def train(
        self,
        *,
        span: tuple[int, int | None] = (0, None),
        epochs: int | None = None,
        lr_scale: float = 1.0,
        trainable: tuple[str, ...] | None = None,
        mode: Mode = "hard",
        callback: Callback | None = None,
    ) -> None:
        self._ledger.refuse_inside("train")
        length = self.epochs if epochs is None else epochs
        stop = length if span[1] is None else span[1]
        arguments = TrainingArguments(
            self.recipe, self._inputs.seed, self._clock, span[0], stop, length, lr_scale, trainable,
            mode, self.loss,
        )  # fmt: skip
        self._note_round(lr_scale)
        facts: JsonObject = {"span": [span[0], stop], "epochs": length, "lr_scale": lr_scale,
                 "trainable": trainable, "mode": mode, "clock": self._clock,
                 "at_floor": self.masks.at_floor, "loss": source_hash.of_function(self.loss)}  # fmt: skip
        if callback is not None:
            facts["callback"] = source_hash.of_class(type(callback))
        if mode != "gate":
            apply_hard(self.model, self.masks)
        plain, tensors = pack(callback)
        with self._phase("a training") as now:
            key = _key(self, "train", facts | {"fields": plain}, tensors, now)
            self._mode = mode
            self._train_or_load(key, arguments, callback)
        self.model.train()  # as the loop leaves it
        self._settle(key)
        self._trained_masks = dict(self.masks.touched)
        self._clock += stop - span[0]

    def once(self, fn: Callable[..., T], *args: Json) -> T:
        return self._once(fn, args, masked=True)

    def validate(self) -> Evaluation:
        return Evaluation(**self.once(_validation))

    def score_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        part = self._inputs.train.in_memory_format(self.layout.has_convolutions)
        yield from part.batches(256)

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        self._ledger.current_cost.images_forward += len(x)
        return activations(self.layout, x)

    # -- states ------------------------------------------------------------------------------

    def snapshot(self) -> State:
        return State({k: v.clone() for k, v in tensors_of(self.model).items()}, self._clock)

    def restore(self, state: State) -> None:
        self._ledger.refuse_inside("restore")
        load_model(self.model, state.tensors)
        self._clock = state.clock
        if self.masks.touched and self._mode == "hard":
            apply_hard(self.model, self.masks)

    def keep(self, name: str, masked: bool = True) -> None:
        self._ledger.refuse_inside("keep")
        masks = {k: m.clone() for k, m in self.masks.touched.items()} if masked else {}
        tensors = self.snapshot().tensors
        is_whole = not masked and bool(self.masks.touched)
        moved = is_whole or not same(masks, self._trained_masks)
        if moved and batchnorm.has_norms(self.model):
            cost = dict(self._ledger.costs)
            tensors |= self._once(_own_statistics, (), masked=masked)
            self._ledger.costs = cost
        self._kept[name] = KeptState(tensors, masks)

    def rng(self, purpose: str) -> torch.Generator:
        return generator(self._inputs.seed, purpose)

    def log(self, **values: Json) -> None:
        (self._events if self._open_log is None else self._open_log).append(values)

    def curve(self, rows: list[dict[str, float]], marked: float | None = None) -> None:
        self._ledger.refuse_inside("curve")
        self._curves[next(iter(rows[0]))] = CurveRecord.model_construct(marked=marked, rows=rows)

    def store(self, index_bits: int) -> None:
        self._ledger.refuse_inside("store")
        self._index_bits = index_bits

    # -- inside ------------------------------------------------------------------------------

    def _once(self, fn: Callable[..., T], args: tuple[Json, ...], masked: bool) -> T:
        self._ledger.refuse_inside("once")
        if masked and self._mode == "hard":
            apply_hard(self.model, self.masks)  # before the key: it sees what the call will see
        facts: JsonObject = {
            "fn": source_hash.of_function(fn),
            "args": args,
            "mode": self._mode,
            "masked": masked,
            "evaluating": sorted(n for n, m in self.model.named_modules() if not m.training),
        }

        def compute() -> Stored[CallPhase]:
            started = time.perf_counter()
            cost = self._ledger.current_cost
            self._open_log = log = list[LogLine]()
            with self._masks_in_force(masked), PassCounter() as passes:
                value = _call_pure(self, fn, args, key)
            cost.multiply_adds_outside += passes.multiply_adds
            cost.seconds = time.perf_counter() - started
            if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
                # Copies: a score may be a view of weights that will move.
                found = {k: v.detach().clone() for k, v in value.items()}
                record = CallPhase.model_construct(kind="tensors", log=log, cost=cost)
                return Stored(record, found)
            plain = json.loads(json.dumps(value))
            record = CallPhase.model_construct(kind="json", value=plain, log=log, cost=cost)
            return Stored(record, {})

        flags = {module: module.training for module in self.model.modules()}
        with self._phase(f"a call of {fn.__qualname__}") as now:
            key = _key(self, "once", facts, {}, now)
            (record, tensors), _ = self._ledger.phase(key, CallPhase, compute)
        for module, flag in flags.items():
            module.training = flag
        self._settle(key)
        self._take_log(key, record)
        if record.kind == "json":
            return record.value  # type: ignore[no-any-return]
        device = self._inputs.train.device
        return {name: t.to(device) for name, t in tensors.items()}  # type: ignore[return-value]

    @contextmanager
    def _phase(self, what: str) -> Iterator[dict[Place, Json]]:
        """Refuse what no key could see, around a phase, and what it leaves changed but does not store.

        Yields the facts of the network, which are part of the phase's key.
        """
        with self._uncounted():
            self._surroundings.refuse_changes(self.model, f"before {what}")
            before, frozen = self._facts(), _frozen(self.model)
            yield before
            self._surroundings.refuse_changes(self.model, f"after {what}")
            left = changed(before, self._facts())
            named = [f"{module or 'the network'}: {attribute}" for module, attribute in left]
            named += [f"requires_grad of {name}" for name in sorted(frozen ^ _frozen(self.model))]
            if named:
                raise TrialFailed(
                    f"{what} changed {', '.join(named[:3])}, which is not stored: a later run that loads "
                    "its result would not see it; change it outside, or set it back"
                )

    def _facts(self) -> dict[Place, Json]:
        found = facts_of(self.model)
        return {place: fact for place, fact in found.items() if place not in self._changes_itself}

    def _settle(self, purpose: str) -> None:
        """Let random numbers outside phases not depend on whether a phase was computed or loaded."""
        seed_globally(derive(self._inputs.seed, purpose))

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """Leave the count of passes outside phases for the length of a phase, which has its own.

        Raises:
            TrialFailed: the method has entered a mode of its own since.
        """
        if not self._is_counting:
            yield
            return
        if _get_current_dispatch_mode() is not self._passes:
            raise TrialFailed(
                "a dispatch mode is active, which no phase's key can see; leave it before"
            )
        self._passes.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            self._passes.__enter__()  # type: ignore[no-untyped-call]

    def _take_log(self, key: str, record: PhaseRecord) -> None:
        self._open_log = None
        self._events += [{"phase": key[:8], **line} for line in record.log]

    def _note_round(self, lr_scale: float) -> None:
        """Remember what was kept when a training began: controls follow the same rounds."""
        counts = self.masks.counts()
        if counts and (not self._rounds or self._rounds[-1] != counts):
            self._rounds.append(counts)
            self._lr_scale = lr_scale

    def _train_or_load(
        self, key: str, arguments: TrainingArguments, callback: Callback | None
    ) -> None:
        stored, computed = self._ledger.phase(
            key, TrainingPhase, lambda: run_training(self, key, arguments, callback)
        )
        record, tensors = stored
        if not computed:
            load_model(self.model, under("model/", tensors))
            self.masks.load(under("mask/", tensors))
            self.masks.at_floor = record.at_floor
            unpack(callback, record.callback, under("callback/", tensors))
            self._ledger.work.trainings_reused += 1
        self._take_log(key, record)

    def _masks_in_force(self, masked: bool) -> Gates:
        """Gate what is dropped where the last training left dropped weights alive."""
        gates = Gates(self.model, self.layout)
        if masked and self._mode == "gate":
            gates.set_masks(self.masks.touched)
        return gates

    def _count(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._ledger.current_cost.images_forward += len(args[0])


# -- the harness's side ----------------------------------------------------------------------


def outcome_of(trial: RunningTrial) -> TrialOutcome:
    """Return what a trial has come to so far."""
    target, masks = trial._inputs.target, trial.masks
    return TrialOutcome(
        trial.model, trial.layout, masks, trial._rounds, trial._lr_scale, trial._kept, trial._curves,
        trial._index_bits, trial._events, trial._ledger.costs, trial._ledger.cost, trial._ledger.work,
        unreachable=target is not None and masks.compression < target * REACHED,
    )  # fmt: skip


def run_method(trial: RunningTrial, prune: Callable[[Trial], None]) -> TrialOutcome:
    """Run a method's part of a trial, and return what the trial has come to.

    Raises:
        TrialFailed: it leaves a hook or a switch behind or another network, or what else stops it.
    """
    trial._settle("prune")
    try:
        with trial._passes:
            trial._is_counting = True
            try:
                prune(trial)
            finally:
                trial._is_counting = False
        trial._ledger.outside.multiply_adds_outside = trial._passes.multiply_adds
        trial._built.write_out(trial.model)
        trial._surroundings.refuse_changes(trial.model, "at the end of prune", NOT_MEASURED)
        trial._built.refuse_changes(trial.model, trial._facts())
    finally:
        trial._surroundings.restore()
    trial._built.restore_memory(trial.model)
    return close(trial)


def close(trial: RunningTrial) -> TrialOutcome:
    """End the method's part: note the final counts, take the harness's hook off, return the outcome."""
    trial._note_round(trial._lr_scale)
    trial._image_counter.remove()
    return outcome_of(trial)


# -- trainings as phases ---------------------------------------------------------------------


def run_training(
    trial: RunningTrial, key: str, arguments: TrainingArguments, callback: Callback | None
) -> Stored[TrainingPhase]:
    """Run a training from its start or its last checkpoint; return its record and end state."""
    inputs = trial._inputs
    training = Training(
        arguments, trial.model, trial.layout, trial.masks, inputs.train, callback, trial
    )
    saved = inputs.store.load_progress(key)
    if saved is not None:
        training.resume(saved.record, saved.tensors)
    trial._ledger.current_cost = training.progress.cost
    trial._open_log = training.progress.log
    epochs_before = training.progress.epoch
    last_save = time.monotonic()

    def checkpoint(now: Training) -> None:
        nonlocal last_save
        if now.progress.step == 0:
            inputs.notify(now.progress.epoch, arguments.stop)
        if time.monotonic() - last_save >= inputs.checkpoint_seconds:
            tensors = now.state()
            inputs.store.save_progress(key, now.progress, tensors)
            last_save = time.monotonic()

    training.run(checkpoint)
    plain, tensors = pack(callback)
    state = {f"model/{k}": v for k, v in tensors_of(trial.model).items()}
    state |= {f"mask/{k}": v for k, v in trial.masks.touched.items()}
    state |= {f"callback/{k}": v for k, v in tensors.items()}
    done = training.progress
    work = trial._ledger.work
    work.trainings += 1
    work.epochs += done.epoch - epochs_before
    work.images_seen += (done.epoch - epochs_before) * len(inputs.train)
    record = TrainingPhase.model_construct(
        cost=done.cost, log=done.log, callback=plain, at_floor=trial.masks.at_floor
    )
    return Stored(record, state)


# -- keys -------------------------------------------------------------------------------------


def _key(
    trial: RunningTrial,
    kind: str,
    facts: JsonObject,
    tensors: Mapping[str, Tensor],
    now: Mapping[Place, Json],
) -> str:
    """Return the key of a phase: the hash of weights, buffers, masks, arguments and environment.

    Args:
        kind: `train` or `once`.
        facts: the arguments, as JSON.
        tensors: fields of a callback.
        now: facts of the network beside its tensors.
    """
    everything = {f"model/{k}": v for k, v in tensors_of(trial.model).items()}
    everything |= {f"mask/{k}": v for k, v in trial.masks.touched.items()}
    everything |= {f"field/{k}": v for k, v in tensors.items()}
    facts |= {"environment": trial._inputs.environment, "kind": kind}
    # Not among the tensors, but a method may have changed it since the network was built.
    facts["changed"] = [[*place, now.get(place)] for place in changed(trial._built.facts, now)]
    facts["without_gradient"] = sorted(_frozen(trial.model))
    if kind != "train" or trial.masks.touched or "callback" in facts:
        # What sites there are; a plain training has none.
        facts["coupling"] = trial.layout.coupling
    return key_of(facts, everything)


def _call_pure(trial: RunningTrial, fn: Callable[..., T], args: tuple[Json, ...], key: str) -> T:
    """Seed the global generators, call, and refuse a call that changed weights, buffers or masks.

    Raises:
        TrialFailed: masks or tensors are not what they were before.
    """
    seed_globally(derive(trial._inputs.seed, "once", key))
    before = trial.masks.version, key_of({}, tensors_of(trial.model))
    value = fn(trial, *args)
    if before != (trial.masks.version, key_of({}, tensors_of(trial.model))):
        raise TrialFailed(
            f"{fn.__qualname__} changed masks or weights inside once, which a later run that "
            "loads its result would not see; return scores and change the network outside"
        )
    return value


def _frozen(model: nn.Module) -> frozenset[str]:
    """Return the parameters that get no gradient."""
    return frozenset(name for name, p in model.named_parameters() if not p.requires_grad)


def _a_few(part: Part, layout: Layout) -> Tensor:
    """Return the first of the training images (2, channels, height, width)."""
    index = torch.arange(min(2, len(part)))
    return part.in_memory_format(layout.has_convolutions).batch(index)[0]


# -- phases of the harness itself -------------------------------------------------------------


def _validation(trial: RunningTrial) -> dict[str, Any]:
    """Return the fields of an `Evaluation` on the validation images."""
    part = trial._inputs.validation.in_memory_format(trial.layout.has_convolutions)
    return asdict(evaluate(trial.model, part))


def validated_with(trial: Trial, weights: Mapping[str, Tensor]) -> Evaluation:
    """Evaluate the network on the validation images with other weights, which it does not keep.

    For functions given to `Trial.once`, which may not change the network.

    Args:
        weights: by parameter name; all others are the network's own.
    """
    if not isinstance(trial, RunningTrial):
        raise TrialFailed("validated_with takes the trial that the harness gave to the method")
    part = trial._inputs.validation.in_memory_format(trial.layout.has_convolutions)
    return scored(part.task, *outputs_of(trial.model, part, weights=weights))


def _own_statistics(trial: RunningTrial) -> dict[str, Tensor]:
    """Return BatchNorm statistics under the masks in force; leave the network as it was."""
    inputs, model = trial._inputs, trial.model
    part = inputs.train.in_memory_format(trial.layout.has_convolutions)
    stored = model.state_dict().keys()
    before = {name: b.clone() for name, b in model.named_buffers() if name in stored}
    batchnorm.estimate(model, part, inputs.recipe.batch_size, inputs.seed)
    found = {name: model.get_buffer(name).clone() for name in before}
    for name, value in before.items():
        model.get_buffer(name).copy_(value)
    return found
