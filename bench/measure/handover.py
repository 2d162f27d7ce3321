"""From the process that pruned a network to the one that measures it: files, and nothing else."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bench.data.batches import Part, TrainingParts
from bench.graph.structure import Layout
from bench.pruning.hard_mask import apply_hard
from bench.seeds import derive
from bench.store.atomic import whole_file
from bench.store.records import ControlRecord, CostColumns, HandoverRecord
from bench.store.results import write_json
from bench.store.trial_identity import TrialSpec
from bench.training.evaluation import outputs_of
from bench.training.loop import under
from bench.training.method import Control
from bench.training.network_facts import tensors_of
from bench.training.trial import TrialOutcome
from bench.training.trial_records import KeptState

FILE = "handover.json"
_KEPT = "kept-"


def hand_over(
    folder: Path,
    spec: TrialSpec,
    trial: TrialOutcome,
    control: Control,
    parts: TrainingParts,
    code: dict[str, str],
) -> None:
    """Write all that a trial left: weights, masks, kept states, and last of all `handover.json`."""
    _delete_remains(folder)
    network = trial.model
    apply_hard(network, trial.masks)
    save(folder / "masks.safetensors", trial.masks.touched)
    save(folder / "model.safetensors", tensors_of(network))
    for number, state in enumerate(trial.kept.values()):
        tensors = {f"model/{name}": tensor for name, tensor in state.tensors.items()}
        tensors |= {f"mask/{name}": mask for name, mask in state.masks.items()}
        save(_kept_file(folder, number), tensors)
    record = HandoverRecord.model_construct(
        control=_control(trial, control),
        curves=trial.curves,
        kept=list(trial.kept),
        unreachable=trial.unreachable if spec.target and not spec.depends_on else False,
        index_bits=trial.index_bits,
        cost=_cost(trial),
        phases=sorted(trial.costs),
        validation=validation_digest(network, trial.layout, parts.validation, spec.seed),
        code=code,
    )
    write_json(folder / FILE, record.as_json())


def read_kept(folder: Path, number: int) -> KeptState:
    """Return a state that the method wanted to be measured beside the final one."""
    tensors = load_file(_kept_file(folder, number))
    return KeptState(under("model/", tensors), under("mask/", tensors))


def clear(folder: Path) -> None:
    """Delete what no finished trial needs: all that was handed over but weights and masks."""
    for file in (folder / FILE, *folder.glob(f"{_KEPT}*.safetensors")):
        file.unlink(missing_ok=True)


def _delete_remains(folder: Path) -> None:
    """Delete what an unfinished run of the trial left: it is all made again."""
    for pattern in (FILE, "*.safetensors", "*.dc", "*.part"):
        for file in folder.glob(pattern):
            file.unlink()


def validation_digest(model: nn.Module, layout: Layout, validation: Part, seed: int) -> str:
    """Return SHA-256 of a network's outputs on validation images, the same in every process."""
    torch.manual_seed(derive(seed, "measure"))  # of a network that is random in eval mode too
    outputs, _ = outputs_of(model, validation.in_memory_format(layout.has_convolutions))
    # NaN has many bit patterns.
    plain = torch.where(outputs.isnan(), torch.nan, outputs).contiguous().cpu()
    return hashlib.sha256(repr(plain.shape).encode() + plain.numpy().tobytes()).hexdigest()


def save(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors to a file that is there whole or not at all."""
    with whole_file(path) as part:
        save_file(
            {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, part
        )


def _kept_file(folder: Path, number: int) -> Path:
    """Return the file of a kept state: a number, for a method may give it any name."""
    return folder / f"{_KEPT}{number}.safetensors"


def _control(trial: TrialOutcome, control: Control) -> ControlRecord:
    return ControlRecord(
        start=control.start,
        rounds=trial.rounds if control.follows_rounds else trial.rounds[-1:],
        retrains=control.retrains,
        lr_scale=trial.lr_scale,
    )


def _cost(trial: TrialOutcome) -> CostColumns:
    cost = trial.cost
    return CostColumns(
        epochs_total=cost.epochs,
        images_seen=cost.images_seen,
        images_forward=cost.images_forward,
        multiply_adds_outside=cost.multiply_adds_outside,
        optimizer_steps=cost.optimizer_steps,
        trainings=sum(c.epochs > 0 for c in trial.costs.values()),
    )
