"""A trial: what a method is given, and the only ways to data that it has.

Every piece of work is a phase under the hash of everything it reads, so the same work is done once,
whoever asks for it: after a kill, for the next target, for another method. The test images are not
here.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from bench.data.tasks import Evaluation, Loss
from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.graph.trace import activations
from bench.pruning.gates import Gates, apply_hard
from bench.pruning.masks import Masks, same
from bench.seeds import generator
from bench.store import identity
from bench.store.phase_cache import Stored
from bench.training import batchnorm, states
from bench.training.callback import Callback, pack, unpack
from bench.training.job import Job, Mode
from bench.training.keys import key_for, undisturbed
from bench.training.ledger import Ledger
from bench.training.loop import load_model, under
from bench.training.resuming import trained
from bench.training.setting import Kept, Reference, Setting, State

T = TypeVar("T")
_REACHED = 1 - 1e-9


class Trial:
    """One network, one seed, one target, in a method's hands."""

    def __init__(self, model: nn.Module, layout: Layout, setting: Setting) -> None:
        self.model = model
        self.layout = layout
        self.setting = setting
        self.loss: Loss = setting.train.task.loss
        device = setting.train.device
        self.masks = Masks(layout, device, lambda purpose: generator(setting.seed, purpose))
        self.masks._target = lambda: self.target
        self.ledger = Ledger(setting.store)
        self.kept: dict[str, Kept] = {}
        self.rounds: list[dict[str, int]] = []
        self.lr_scale = 1.0
        self.events: list[dict[str, Any]] = []
        self.curves: dict[str, dict[str, Any]] = {}
        self.index_bits: int | None = None  # of the file that the network is stored in
        self._clock = 0
        self._mode: Mode = "hard"
        self._trained_masks: dict[str, Tensor] = {}
        self.open_log: list[dict[str, Any]] | None = None  # of the phase that is running
        self._counter = model.register_forward_pre_hook(self._count)

    # -- what a method asks ------------------------------------------------------------------

    @property
    def epochs(self) -> int:
        """Length of one training of the recipe."""
        return self.setting.recipe.epochs

    @property
    def target(self) -> float | None:
        """Compression to reach; None when the method's rate is emergent."""
        self.ledger.refuse_inside("target")
        return self.setting.target

    @property
    def at_target(self) -> bool:
        """Whether the target is reached, or nothing more may be dropped."""
        self.ledger.refuse_inside("at_target")
        target = self.setting.target
        if target is None:
            raise TrialFailed("at_target: this method's rate is emergent, it has no target")
        return self.masks.compression >= target * _REACHED or self.masks.at_floor

    @property
    def unreachable(self) -> bool:
        """Whether the floor was met before the target."""
        target = self.setting.target
        return target is not None and self.masks.compression < target * _REACHED

    @property
    def reference(self) -> Reference | None:
        """The trial that this one is a control of, if it is one."""
        self.ledger.refuse_inside("reference")
        return self.setting.reference

    # -- work --------------------------------------------------------------------------------

    def pretrained(self) -> None:
        """Load the user's weights if there are any; else train from initialisation.

        Weights whose classifier is for other classes are trained once, with a fresh classifier.
        """
        weights = self.setting.weights
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
        """Train the network as it is, under the masks as they are, with a fresh optimiser.

        Args:
            span: part of the schedule to run, in epochs; None: to its end.
            epochs: length of the schedule; None: the recipe's.
            lr_scale: factor on the recipe's learning rate.
            trainable: prefixes of parameter names that move; None: all of them.
            mode: `hard` keeps dropped weights at zero, `gate` multiplies units and freezes what
                is dropped, `soft` zeroes once and lets it regrow.
            callback: what the method does inside; its fields are updated.

        Raises:
            TrialFailed: the loss stopped being finite.
        """
        self.ledger.refuse_inside("train")
        length = self.epochs if epochs is None else epochs
        stop = length if span[1] is None else span[1]
        job = Job(self.setting.recipe, self.setting.seed, self._clock, span[0], stop, length,
                  lr_scale, trainable, mode, self.loss)  # fmt: skip
        self._note_round(lr_scale)
        arguments = {"span": [span[0], stop], "epochs": length, "lr_scale": lr_scale,
                     "trainable": trainable, "mode": mode, "clock": self._clock,
                     "at_floor": self.masks.at_floor, "loss": identity.of_function(self.loss)}  # fmt: skip
        if callback is not None:
            arguments["callback"] = identity.of_class(type(callback))
        if mode != "gate":
            apply_hard(self.model, self.masks)
        plain, tensors = pack(callback)
        key = key_for(self, "train", arguments | {"fields": plain}, tensors)
        self._mode = mode
        self._train_or_load(key, job, callback)
        self._trained_masks = dict(self.masks.touched)
        self._clock += stop - span[0]

    def once(self, fn: Callable[..., T], *args: Any) -> T:
        """Return `fn(trial, *args)`, computed once for this network, these masks and arguments.

        The masks are in force during the call.

        Args:
            fn: a function of a module, or a method of a frozen dataclass; not a closure.
            args: JSON values.

        Returns:
            What `fn` returns: a dictionary of tensors, or a JSON value.
        """
        return self._once(fn, args, masked=True)

    def validate(self) -> Evaluation:
        """Evaluate the network as it is, masks in force, on the validation images."""
        return Evaluation(**self.once(states.validation))

    def score_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the training images in order, not augmented: (b, c, h, w) and labels (b,)."""
        part = self.setting.train.in_layout(self.layout.has_convolutions)
        yield from part.batches(256)

    def activations(self, x: Tensor) -> dict[str, Tensor]:
        """Return each hidden site's post-activation values for a batch: (b, units, ...)."""
        self.ledger.meter.images_forward += len(x)
        return activations(self.layout, x)

    # -- states ------------------------------------------------------------------------------

    def snapshot(self) -> State:
        """Return a deep copy of weights, buffers and clock."""
        return State({k: v.clone() for k, v in self.model.state_dict().items()}, self._clock)

    def restore(self, state: State) -> None:
        """Bring back weights, buffers and clock. Masks stay, and weight masks apply again."""
        self.ledger.refuse_inside("restore")
        load_model(self.model, state.tensors)
        self._clock = state.clock
        if self.masks.touched and self._mode == "hard":
            apply_hard(self.model, self.masks)

    def keep(self, name: str, masked: bool = True) -> None:
        """Have the network as it is now measured beside the final one, masked or whole.

        Its normalisation statistics are its own: they are estimated again where the masks are not
        those of the last training. What that takes is no part of the final network's cost.
        """
        self.ledger.refuse_inside("keep")
        masks = {k: m.clone() for k, m in self.masks.touched.items()} if masked else {}
        tensors = self.snapshot().tensors
        is_whole = not masked and bool(self.masks.touched)
        moved = is_whole or not same(masks, self._trained_masks)
        if moved and batchnorm.has_norms(self.model):
            cost = dict(self.ledger.costs)
            tensors |= self._once(states.own_statistics, (), masked=masked)
            self.ledger.costs = cost
        self.kept[name] = Kept(tensors, masks)

    def rng(self, purpose: str) -> torch.Generator:
        """Return a CPU generator that depends on the seed and the purpose alone."""
        return generator(self.setting.seed, purpose)

    def log(self, **values: Any) -> None:
        """Add a line to the trial's log; inside a phase it becomes part of the phase's record."""
        (self.events if self.open_log is None else self.open_log).append(values)

    def curve(self, rows: list[dict[str, float]], marked: float | None = None) -> None:
        """Put a curve into the record; the report draws it.

        Args:
            rows: points with the same keys; the first key is the x-axis and the curve's name.
            marked: the x that the method went on with.
        """
        self.curves[next(iter(rows[0]))] = {"marked": marked, "rows": rows}

    def store(self, index_bits: int) -> None:
        """Have the network written as a file of shared weights, and measured as that file decodes.

        Args:
            index_bits: width of the step from one kept weight to the next.
        """
        self.index_bits = index_bits

    def close(self) -> None:
        """End the method's part: note the final counts, take the harness's hook off."""
        self._note_round(self.lr_scale)
        self._counter.remove()

    # -- inside ------------------------------------------------------------------------------

    def _once(self, fn: Callable[..., T], args: tuple[Any, ...], masked: bool) -> T:
        self.ledger.refuse_inside("once")
        if masked and self._mode == "hard":
            apply_hard(self.model, self.masks)  # before the key: it sees what the call will see
        facts = {"fn": identity.of_function(fn), "args": args, "mode": self._mode, "masked": masked}

        def compute() -> Stored:
            self.open_log = []
            with self._masks_in_force(masked):
                value = undisturbed(self, fn, args)
            if isinstance(value, dict) and any(isinstance(v, Tensor) for v in value.values()):
                # Copies: a score may be a view of weights that will move.
                found = {k: v.detach().clone() for k, v in value.items()}
                return {"kind": "tensors", "log": self.open_log}, found
            plain = json.loads(json.dumps(value))
            return {"kind": "json", "value": plain, "log": self.open_log}, {}

        key = key_for(self, "once", facts, {})
        (record, tensors), _ = self.ledger.phase(key, compute)
        self._take_log(key, record)
        if record["kind"] == "json":
            return record["value"]  # type: ignore[no-any-return]
        device = self.setting.train.device
        return {name: t.to(device) for name, t in tensors.items()}  # type: ignore[return-value]

    def _take_log(self, key: str, record: dict[str, Any]) -> None:
        self.open_log = None
        self.events += [{"phase": key[:8], **line} for line in record["log"]]

    def _note_round(self, lr_scale: float) -> None:
        """Remember what was kept when a training began: controls follow the same rounds."""
        counts = self.masks.counts()
        if counts and (not self.rounds or self.rounds[-1] != counts):
            self.rounds.append(counts)
            self.lr_scale = lr_scale

    def _train_or_load(self, key: str, job: Job, callback: Callback | None) -> None:
        stored, computed = self.ledger.phase(key, lambda: trained(self, key, job, callback))
        record, tensors = stored
        if not computed:
            load_model(self.model, under("model/", tensors))
            self.masks.load(under("mask/", tensors))
            self.masks.at_floor = record["at_floor"]
            unpack(callback, record["callback"], under("callback/", tensors))
            self.ledger.work.trainings_reused += 1
        self._take_log(key, record)

    def _masks_in_force(self, masked: bool) -> Gates:
        """Gate what is dropped where the last training left dropped weights alive."""
        gates = Gates(self.model, self.layout)
        if masked and self._mode == "gate":
            gates.show(self.masks.touched)
        return gates

    def _count(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.ledger.meter.images_forward += len(args[0])
