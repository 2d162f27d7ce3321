"""The start of a trial: network, data, weights and reference, as its specification names them."""

from collections.abc import Callable
from dataclasses import asdict

from safetensors.torch import load_file
from torch import nn

from bench.data.batches import TrainingParts
from bench.errors import TrialFailed, UsageError
from bench.graph.structure import Layout
from bench.plan.build_network import build
from bench.plan.options import recipe_from
from bench.store import source_hash
from bench.store.json_values import JsonObject
from bench.store.phase_cache import PhaseStore
from bench.store.trial_identity import TrialSpec
from bench.sweep.context import SweepContext
from bench.training import pretrained
from bench.training.contract import Reference
from bench.training.network import about
from bench.training.pretrained import FittedWeights
from bench.training.trial import RunningTrial
from bench.training.trial_records import TrialInputs


def trial_of(
    context: SweepContext, spec: TrialSpec, notify: Callable[[int, int], None]
) -> tuple[RunningTrial, TrainingParts]:
    """Build what a method is given at its start, and the parts of its data set."""
    parts = context.training_parts(spec)
    network, layout = build(context.registry, spec.model, parts.dataset, spec.seed, spec.coupling)
    weights = _weights(context, spec, network, layout)
    network.to(context.machine.device)
    return RunningTrial(network, layout, _inputs(context, spec, parts, weights, notify)), parts


def _inputs(
    context: SweepContext,
    spec: TrialSpec,
    parts: TrainingParts,
    weights: FittedWeights | None,
    notify: Callable[[int, int], None],
) -> TrialInputs:
    recipe = recipe_from(spec.recipe)
    environment: JsonObject = {
        **asdict(context.machine.facts()),
        "seed": spec.seed,
        "recipe": asdict(recipe),
        "train": parts.train.digest,
        "validation": parts.validation.digest,
        "core": source_hash.of_core(),
        "task": source_hash.of_class(type(parts.dataset.task)),  # it may stand in a user's own file
        # The forward pass is code: two networks may share every tensor.
        "model": [spec.model, context.registry.source_of("models", spec.model)],
    }
    if spec.data is not None:  # the parts' digests hold sizes of files, not their content
        environment["data"] = spec.data
    return TrialInputs(
        recipe=recipe,
        seed=spec.seed,
        target=spec.target,
        train=parts.train,
        validation=parts.validation,
        store=PhaseStore(context.results.folder / "phases", context.tell),
        environment=environment,
        checkpoint_seconds=context.config.checkpoint_seconds,
        reference=_reference(context, spec),
        weights=weights,
        notify=notify,
    )


def _weights(
    context: SweepContext, spec: TrialSpec, network: nn.Module, layout: Layout
) -> FittedWeights | None:
    """Return the weights that the trial's network starts from, if they were given."""
    if spec.weights is None:
        return None
    file = context.config.weights_file if pretrained.is_of_a_file(spec.weights) else None
    if file is None and pretrained.is_of_a_file(spec.weights):
        raise TrialFailed(f"its weights ({spec.weights}) are not given; add --weights FILE")
    published = about(context.registry.model(spec.model)).weights
    tensors = pretrained.load(spec.model, spec.weights, file, published)
    what = f"the weights {spec.weights} do not fit {spec.model}"
    return pretrained.fitted(tensors, network, layout, what)


def _reference(context: SweepContext, spec: TrialSpec) -> Reference | None:
    """Read the trial that a control follows.

    Raises:
        TrialFailed: it is not finished.
    """
    if not spec.depends_on:
        return None
    followed = spec.depends_on[0]
    found = context.results.finished(followed)
    record = found.record
    if record is None:
        raise TrialFailed(
            found.problem or f"it is a control of trial {followed}, which did not finish"
        )
    control = record.control
    try:
        masks = context.results.trial(followed).file("masks.safetensors", record)
    except UsageError as error:
        raise TrialFailed(str(error)) from error
    if (
        control.start is None
        or control.rounds is None
        or control.lr_scale is None
        or control.retrains is None
    ):
        raise TrialFailed(
            f"the record of trial {followed} does not say what a control follows, for an older "
            f"version wrote it; delete {context.results.trial(followed).path} and run both again"
        )
    return Reference(
        start=control.start,
        rounds=tuple(control.rounds),
        lr_scale=control.lr_scale,
        retrains=control.retrains,
        masks=load_file(masks),
        epochs=record.metrics.epochs_total,
    )
