"""`bench show`: a method, model, data set or suite, or a trial, without running anything."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from bench.cli.show_trial import as_written, find_trial, show_finished
from bench.errors import UnknownName, UsageError, UsersCodeFailed
from bench.plan.plugins import KINDS, Kind
from bench.plan.registry import Registry
from bench.store.results import Results, TrialFolder, newest

if TYPE_CHECKING:
    from bench.graph.structure import Layout

Facts: TypeAlias = Mapping[str, object]  # printed as they are, or as JSON


def show_command(
    name: str,
    dataset: str | None,
    results: Path | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print all there is about a name, of every kind that it names, or a trial's record."""
    registry = Registry(plugins, for_records=True)
    found: list[Kind] = [kind for kind in KINDS if name in registry.entries(kind)]
    if name.startswith("torchvision:") or ".py:" in name:
        found = ["models"]
    elif name.startswith("imagefolder:"):
        found = ["datasets"]
    if dataset is not None:
        if "models" not in found:
            raise UsageError(f"--dataset says what a model is built for, and {name!r} is no model")
        found = ["models"]
    if found:
        facts = [_about(registry, kind, name, dataset) for kind in found]
        _print(facts if len(facts) > 1 else facts[0], as_json)
        return
    folder = _trial(name, results)
    if folder is None:
        raise _unknown(registry, name, results)
    if folder.status() == "finished":
        show_finished(folder, registry, as_json)
    else:
        _print(_unfinished(folder), as_json)


def _trial(name: str, folder: Path | None) -> TrialFolder | None:
    try:
        results = Results(folder) if folder is not None else newest()
    except UsageError:
        return None
    return find_trial(name, results)


def _unknown(registry: Registry, name: str, folder: Path | None) -> UsageError:
    """Return the error for a name that is neither known nor the beginning of a trial's id."""
    known = [n for kind in KINDS for n in registry.entries(kind)]
    if difflib.get_close_matches(name, known, n=1, cutoff=0.5):
        return UnknownName("name or trial", name, known)
    try:
        where = f"no trial in {folder or newest().folder} begins so"
    except UsageError:
        where = "there are no trials in results/ yet"
    return UsageError(
        f"Unknown name or trial {name!r}: {where}, and bench list methods, models, datasets or suites "
        "has no such name; --results FOLDER looks for trials elsewhere"
    )


def _unfinished(folder: TrialFolder) -> Facts:
    state = folder.status()
    facts: dict[str, object] = {"folder": str(folder.path), "status": state}
    return {**facts, **as_written(folder.error())} if state == "failed" else facts


def _about(registry: Registry, kind: Kind, name: str, for_dataset: str | None) -> Facts:
    entry = registry.find(kind, name)
    facts: dict[str, object] = {kind.removesuffix("s"): name, "about": entry.summary}
    if kind == "methods":
        method = registry.method(name)
        facts |= {"doc": _doc(method), "rate": method.rate, "level": method.level,
                  "version": method.version}  # fmt: skip
        facts["options"] = {f.name: f.default for f in dataclasses.fields(method)}
    elif kind == "models":
        from bench.training.network import about

        known = about(registry.model(name))
        facts |= {"input_size": known.input_size, "recipe": dataclasses.asdict(known.recipe)}
        facts |= _wiring(registry, name, known.input_size, for_dataset)
    elif kind == "datasets":
        dataset = registry.dataset(name)
        facts |= {"task": dataset.task.name, "shape": dataset.shape, "classes": dataset.classes,
                  "mean": dataset.mean, "std": dataset.std, "needs_files": dataset.needs_files,
                  "augment": dataset.augment}  # fmt: skip
    else:
        facts["file"] = entry.path.read_text(encoding="utf-8")
    return facts


def _wiring(registry: Registry, name: str, side: int | None, for_dataset: str | None) -> Facts:
    """Return the units of a network, layer by layer, and the reasons for what cannot be dropped."""
    from bench.graph.count import count
    from bench.plan.build_network import build, input_shape

    if for_dataset is None:
        layout, built_for = _of_ten_classes(registry, name, side)
    else:
        dataset = registry.dataset(for_dataset)
        layout = build(registry, name, dataset, seed=0)[1]
        built_for = f"{for_dataset}, inputs {input_shape(registry, name, dataset)}"
    dense = count(layout, {})
    site_of = {m: site.name for site in layout.sites if not site.is_input for m in site.modules}
    layers = {}
    for layer in layout.layers:
        site = site_of.get(layer.name)
        tied = f", tied to {site}" if site not in (None, layer.name) else ""
        units = f"{layer.weight_shape[0]} units{tied}" if site else "no units"
        why = f": {layout.refused[layer.name]}" if layer.name in layout.refused else ""
        layers[layer.name] = f"{'x'.join(map(str, layer.weight_shape))}, {units}{why}"
    return {"built_for": built_for, "parameters": dense.params_dense,
            "multiply_adds": dense.macs_dense, "layers": layers}  # fmt: skip


def _of_ten_classes(registry: Registry, name: str, side: int | None) -> "tuple[Layout, str]":
    """Build a network as for MNIST, or for ten classes of colour images of the size it asks for."""
    import torch

    from bench.graph.trace import layout_of
    from bench.plan.build_network import network_of

    shape = (1, 28, 28) if side in (None, 28) else (3, side, side)
    maker = registry.model(name)
    try:
        network = network_of(maker, 10, shape)
        layout = layout_of(network, torch.zeros(1, *shape))
    except UsersCodeFailed as error:
        raise UsageError(
            f"{name} cannot be built for 10 classes of {shape}: {error}; --dataset names another input"
        ) from error
    return layout, f"10 classes, images {shape}; --dataset names another input"


def _doc(thing: type) -> str:
    import inspect

    return inspect.getdoc(thing) or ""


def _print(facts: Facts | list[Facts], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=1, default=str))
        return
    several = facts if isinstance(facts, list) else [facts]
    click.echo("\n\n".join("\n".join(_lines(each, 0)) for each in several))


def _lines(facts: Facts, depth: int) -> list[str]:
    pad = "  " * depth
    lines = []
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            lines += [f"{pad}{key}:", *_lines(value, depth + 1)]
        elif isinstance(value, str) and "\n" in value:
            lines += [f"{pad}{key}:", *(f"{pad}  {line}" for line in value.splitlines())]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.append(f"{pad}{key}:")
            lines += [f"{pad}  {json.dumps(item)}" for item in value]
        elif isinstance(value, list) and len(value) > 8:
            lines.append(f"{pad}{key}: {len(value)} of them")
        else:
            shown = f"{value:.6g}" if isinstance(value, float) else value
            lines.append(f"{pad}{key}: {shown}")
    return lines
