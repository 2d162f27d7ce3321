"""`bench export`: take a trial's pruned network away, for programs that know nothing of us."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bench.cli.show_trial import find_trial, finished_record
from bench.errors import UnknownName, UsageError
from bench.plan.recorded_code import file_as_named
from bench.plan.registry import Registry
from bench.store.atomic import whole_file
from bench.store.json_values import RecordError
from bench.store.records import read_sources
from bench.store.results import Results, TrialFolder, newest
from bench.store.source_copies import is_source_hash
from bench.store.source_hash import is_other_code
from bench.store.trial_identity import TrialSpec
from bench.system_errors import need_utf8

if TYPE_CHECKING:
    from bench.sweep.export_network import Exported, Form


def export_command(
    name: str,
    form: "Form | Literal['dc']",
    results: Path | None,
    out: Path,
    plugins: tuple[Path, ...],
) -> None:
    """Write a finished trial's network in a form, and say what was written."""
    home = Results(results) if results is not None else newest()
    folder = find_trial(name, home)
    if folder is None:
        raise UnknownName(f"trial in {home.folder}:", name, [t.id for t in home.trials()])
    finished_record(folder)
    need_utf8(out)
    if form == "dc":
        _take_file(folder, out)
        return
    from bench.sweep import export_network
    from bench.sweep.reload import rebuilt

    if form == "onnx":
        export_network.need_onnx()
    registry = Registry(plugins, for_records=True)
    trial = rebuilt(registry, folder)
    if note := _note_on_code(registry, folder, trial.spec):
        click.echo(f"Note: {note}", err=True)
    click.echo(f"Exporting {trial.spec.label}", err=True)
    _tell(export_network.export(trial, form, out))


def _take_file(folder: TrialFolder, out: Path) -> None:
    """Copy the file that the trial was measured on; it is checked against its record and decoded."""
    from bench.measure.codec import decode
    from bench.measure.file_size import FILES

    record = finished_record(folder)
    if FILES["huffman"] not in record.files:
        raise UsageError(
            f"trial {folder.id} was not stored as a Deep Compression file, for its weights are not "
            "shared; bench run --methods deep-compression makes such trials"
        )
    data = folder.file(FILES["huffman"], record).read_bytes()
    decode(data)
    target = out / f"{folder.id}.dc"
    try:
        out.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            part.write_bytes(data)
    except OSError as error:
        raise UsageError(
            f"The folder {out} cannot be written ({error.strerror}); --out names another one"
        ) from error
    m = record.metrics
    click.echo(f"{target}: {len(data):,} bytes, {m.file_compression:.1f} times fewer than the "
               f"{m.file_bytes_dense:,} of its numbers in float32")  # fmt: skip


def _note_on_code(registry: Registry, folder: TrialFolder, spec: TrialSpec) -> str:
    """Return what is to be said where a network's code is another now than when its trial was run."""
    changed = f"the code of {spec.model} has changed since trial {folder.id} was run"
    if is_source_hash(spec.sources.get("model")):
        now = file_as_named(registry, spec, "model")
        is_same = now is None or now.hash == spec.sources["model"]
        return "" if is_same else f"{changed}; the network is built with the code that was run"
    if "model" in spec.sources:  # of a package, which would be refused in another version
        return ""
    try:
        then = read_sources(folder.path / "spec.json").get("model", "")
    except RecordError as error:
        return (
            f"whether {changed} is not known ({error}); the network is built with the code of now"
        )
    if then and not is_other_code(then, registry.source_of("models", spec.model)):
        return ""
    return f"{changed}; the network is built with the code of now"


def _tell(done: "Exported") -> None:
    click.echo(f"{done.folder}:")
    width = max(len(name) for name in done.files)
    for name, size in done.files.items():
        click.echo(f"  {name:<{width}}  {size:>12,} bytes")
    before, after = done.parameters_before, done.parameters_after
    click.echo(f"  parameters: {before:,} before, {after:,} after")
    if done.why_whole:
        click.echo(f"  no unit was removed: {done.why_whole}")
    click.echo(
        "  loaded again, it gives the masked network's logits; largest difference "
        f"{done.largest_difference:.2g}"
    )
