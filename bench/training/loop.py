"""The only training loop. Everything a method wants of it is a mask mode or a callback."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from bench.data.augment import Augment
from bench.data.batches import Part
from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.pruning.gates import Frozen, Gates
from bench.pruning.hard_mask import HardMask, apply_hard
from bench.pruning.masks import Masks, same
from bench.seeds import derive, generator
from bench.store.json_values import JsonObject
from bench.store.phase_records import Progress
from bench.training import batchnorm
from bench.training.callback_fields import pack, unpack
from bench.training.contract import Callback, Trial
from bench.training.network_facts import tensors_of
from bench.training.trial_records import TrainingArguments


class Training:
    """Runs `TrainingArguments` on a network, from its start or from a saved `Progress`."""

    def __init__(
        self,
        arguments: TrainingArguments,
        model: nn.Module,
        layout: Layout,
        masks: Masks,
        part: Part,
        callback: Callback | None,
        trial: Trial,
    ) -> None:
        self.arguments, self.model, self.layout, self.masks = arguments, model, layout, masks
        self.part = part.in_memory_format(layout.has_convolutions)
        self.counts_hits = part.task.picks_class
        self.augment = Augment.parse(arguments.recipe.augment)
        self.callback, self.trial = callback, trial
        self.gates = Gates(model, layout)
        self.masks_at_entry = dict(masks.touched)
        if arguments.mode == "gate" and any(name in layout.weights for name in masks.touched):
            raise TrialFailed('mode "gate" masks units; single weights are masked in mode "hard"')
        if arguments.mode != "gate":
            apply_hard(model, masks)
        self.optimizer = self._optimizer()
        self.progress = Progress(epoch=arguments.start)
        self._losses: list[Tensor] = []  # of the epoch's steps, on the device
        self._right = torch.zeros((), dtype=torch.int64, device=part.device)
        self._random_states: list[Tensor] = []  # of a resumed epoch: on the CPU, on the GPU
        self._seconds_before, self._started = 0.0, time.perf_counter()

    # -- saving and resuming -----------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Return every tensor that decides how the training goes on."""
        tensors = {f"model/{k}": v for k, v in tensors_of(self.model).items()}
        tensors |= {f"mask/{k}": v for k, v in self.masks.touched.items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer/{name}/{key}"] = value
        plain, more = pack(self.callback)
        self.progress.callback = plain
        self.progress.at_floor = self.masks.at_floor
        self._count_seconds()
        if self.progress.step:
            tensors["epoch/losses"] = torch.stack(self._losses)
            tensors["epoch/right"] = self._right
            tensors["epoch/random"] = torch.get_rng_state()
            if self.part.device.type == "cuda":
                tensors["epoch/random_cuda"] = torch.cuda.get_rng_state(self.part.device)
        return tensors | {f"callback/{k}": v for k, v in more.items()}

    def resume(self, progress: Progress, tensors: dict[str, Tensor]) -> None:
        """Go on from where `state` was taken."""
        self.progress = progress
        load_model(self.model, under("model/", tensors))
        self.masks.load(under("mask/", tensors))
        self.masks.at_floor = progress.at_floor
        unpack(self.callback, progress.callback, under("callback/", tensors))
        if progress.step:
            self._losses = list(tensors["epoch/losses"].to(self.part.device))
            self._right = tensors["epoch/right"].to(self.part.device)
            names = ("epoch/random", "epoch/random_cuda")
            self._random_states = [tensors[name].cpu() for name in names if name in tensors]
        for name, parameter in self.model.named_parameters():
            saved = under(f"optimizer/{name}/", tensors)
            for key, value in saved.items():
                # A fused optimiser mixes up elements when a weight is channels_last and its
                # momentum is not: take the weight's own layout.
                like = value.shape == parameter.shape
                own = torch.empty_like(parameter.data).copy_(value) if like else value
                if self.arguments.recipe.optimizer == "adam":
                    own = own.to(parameter.device)  # where fused Adam wants its step counter
                self.optimizer.state[parameter][key] = own

    # -- the loop ----------------------------------------------------------------------------

    def run(self, checkpoint: Callable[["Training"], None]) -> None:
        """Train to the end of the span.

        Args:
            checkpoint: called after every batch and every epoch but the last; it may save `state`.
        """
        arguments = self.arguments
        self._seconds_before, self._started = self.progress.cost.seconds, time.perf_counter()
        while self.progress.epoch < arguments.stop:
            gates = self.gates if arguments.mode == "gate" else nullcontext()
            with gates, self._changed_inputs():
                line = self._epoch(checkpoint)
            self.progress.epoch += 1
            self.progress.step = 0
            self.progress.cost.epochs += 1
            if self.callback is not None:
                self.callback.epoch(self.trial, self.progress.epoch)
            self._count_seconds()
            self.progress.log.append(line)
            if self.progress.epoch < arguments.stop:
                checkpoint(self)
        self._finish()

    def _epoch(self, checkpoint: Callable[["Training"], None]) -> JsonObject:
        arguments, done, recipe = self.arguments, self.progress.epoch, self.arguments.recipe
        clock = arguments.clock + done - arguments.start
        order = torch.randperm(len(self.part), generator=generator(arguments.seed, "order", clock))
        if len(order) % recipe.batch_size == 1 and batchnorm.has_norms(self.model):
            order = order[:-1]  # one image has no batch statistics
        hard = HardMask(self.model, self.masks) if arguments.mode == "hard" else None
        frozen = Frozen(self.model, self.masks) if arguments.mode == "gate" else None
        self.model.train()
        n = len(order)
        steps = -(-n // recipe.batch_size)
        if self.progress.step == 0:
            self._losses, self._right = [], torch.zeros_like(self._right)
        batches = self.part.training_batches(
            recipe.batch_size, order, self.augment, arguments.seed, clock, self.progress.step
        )
        self._seed_globally(clock)
        lr = 0.0
        for step, (x, y) in enumerate(batches, self.progress.step):
            lr = arguments.lr_scale * recipe.lr_at(done + step / steps, arguments.epochs)
            loss, logits = self._step(x, y, lr, hard, frozen)
            # Kept on the device: no host waits inside an epoch.
            self._losses.append(loss)
            if self.counts_hits:
                self._right += (logits.argmax(1) == y).sum()
            if step + 1 < steps:
                self.progress.step = step + 1
                checkpoint(self)
        losses = torch.stack(self._losses).double()
        self._refuse_divergence(losses, done)
        sizes = torch.full_like(losses, recipe.batch_size)
        sizes[-1] = n - (steps - 1) * recipe.batch_size
        self.progress.cost.images_seen += n
        self.progress.cost.optimizer_steps += steps
        line: JsonObject = {
            "epoch": done + 1,
            "lr": lr,
            "train_loss": float((losses * sizes).sum()) / n,
        }
        if self.counts_hits:
            line["train_top1"] = 100 * int(self._right) / n
        return line

    @contextmanager
    def _changed_inputs(self) -> Iterator[None]:
        """Let the callback change what the modules that it names read."""
        callback, handles = self.callback, []
        for name in callback.inputs(self.trial) if callback is not None else ():
            module = self.model.get_submodule(name)
            handles.append(module.register_forward_pre_hook(self._on_input(name)))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _on_input(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            assert self.callback is not None
            return (self.callback.input(self.trial, name, given[0]), *given[1:])

        return hook

    def _seed_globally(self, clock: int) -> None:
        """Seed what Dropout draws from; in mid-epoch, go on from where it was."""
        if not self._random_states:
            torch.manual_seed(derive(self.arguments.seed, "global", clock))
            return
        torch.set_rng_state(self._random_states[0])
        if len(self._random_states) > 1:
            torch.cuda.set_rng_state(self._random_states[1], self.part.device)
        self._random_states = []

    def _autocast(self) -> AbstractContextManager[object]:
        if self.arguments.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.part.device.type, torch.bfloat16)

    def _count_seconds(self) -> None:
        self.progress.cost.seconds = self._seconds_before + time.perf_counter() - self._started

    def _step(
        self, x: Tensor, y: Tensor, lr: float, hard: HardMask | None, frozen: Frozen | None
    ) -> tuple[Tensor, Tensor]:
        callback = self.callback
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if callback is not None:
            self.gates.set_masks({})  # what the callback looks at, it masks itself
            callback.batch(self.trial, x, y)
        if frozen is not None:
            self.gates.set_masks(self.masks.touched)
        if hard is not None:
            hard.follow(self.optimizer)
        self.optimizer.zero_grad()
        with self._autocast():
            logits = self.model(x)
        loss = self.arguments.loss(logits.float(), y)
        penalty = callback.penalty(self.trial) if callback is not None else None
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
        if callback is not None:
            callback.gradients(self.trial)
        if hard is not None:
            hard.before_step()
        if frozen is not None:
            frozen.before_step(self.optimizer)
        self.optimizer.step()
        if frozen is not None:
            frozen.after_step(self.optimizer)
        if callback is not None:
            callback.step(self.trial, lr)
            if hard is not None and type(callback).step is not Callback.step:
                hard.again()
        return loss.detach(), logits.detach()

    def _refuse_divergence(self, losses: Tensor, epoch: int) -> None:
        bad = (~torch.isfinite(losses)).nonzero()
        if len(bad):
            raise TrialFailed(
                f"the training diverged: the loss was not finite at step {int(bad[0]) + 1} of epoch "
                f"{epoch + 1}; try a lower learning rate, such as --set recipe.lr="
                f"{self.arguments.recipe.lr / 10:g}"
            )

    def _finish(self) -> None:
        """Zero what the last hook dropped; where masks moved, estimate BatchNorm statistics again."""
        if self.arguments.mode == "hard":
            apply_hard(self.model, self.masks)
        if self.masks_moved() and batchnorm.has_norms(self.model):
            arguments = self.arguments
            with self.gates:
                self.gates.set_masks(self.masks.touched if arguments.mode != "hard" else {})
                batchnorm.estimate(
                    self.model, self.part, arguments.recipe.batch_size, arguments.seed
                )

    def masks_moved(self) -> bool:
        """Return True where the masks differ from those at entry, also after a resume."""
        return not same(self.masks.touched, self.masks_at_entry)

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe, prefixes = self.arguments.recipe, self.arguments.trainable
        parameters = [
            p
            for name, p in self.model.named_parameters()
            if prefixes is None or name.startswith(prefixes)
        ]
        lr, decay = recipe.lr, recipe.weight_decay
        if recipe.optimizer == "adam":
            return torch.optim.Adam(parameters, lr, weight_decay=decay, fused=True)
        if recipe.optimizer == "adadelta":
            return torch.optim.Adadelta(parameters, lr, weight_decay=decay, foreach=True)
        return torch.optim.SGD(
            parameters, lr, recipe.momentum, weight_decay=decay,
            nesterov=recipe.nesterov and recipe.momentum > 0, fused=True,
        )  # fmt: skip


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def load_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy saved weights and buffers into a network; every tensor keeps its memory layout.

    Buffers that a state dictionary leaves out may be missing.
    """
    own, optional = tensors_of(model), tensors_of(model).keys() - model.state_dict().keys()
    if not own.keys() - optional <= tensors.keys() <= own.keys():
        raise TrialFailed("the saved state belongs to another network")
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.shape != own[name].shape:
                raise TrialFailed(f"the saved {name!r} has another shape than the network's")
            own[name].copy_(tensor)
