"""`bench import`: rebuild a network from a Deep Compression file."""

import errno
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.errors import BenchError, UnknownName, UsageError
from bench.plan.registry import Registry
from bench.regular_file import check_regular, read_regular
from bench.store.atomic import whole_file

if TYPE_CHECKING:
    from bench.measure.codec import Decoded, LayerBytes

_COLUMNS = ("header", "positions", "values", "codebook", "tables", "raw", "checksum")


def import_command(file: Path, out: Path | None, plugins: tuple[Path, ...]) -> None:
    """Decode a file, load it into its network, and write the weights as safetensors.

    Raises:
        UsageError: the file is damaged, cannot be read, or is not of the network it names.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from bench.measure.codec import CodecError, decode, sizes

    try:
        data = read_regular(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from error
    try:
        decoded = decode(data)
    except CodecError as error:
        raise UsageError(f"{file}: {error}") from error
    target = out if out is not None else file.with_suffix(".safetensors")
    model, dataset = (decoded.facts.get(key) for key in ("model", "dataset"))
    summary = _fitted(Registry(plugins), file, decoded, model, dataset)
    try:
        _check_target(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(target) as part:
            save_file(decoded.tensors, part)
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{target} cannot be written ({why}); --out names another file") from error
    for line in _table(sizes(data)):
        click.echo(line)
    click.echo("")
    dense = 4 * sum(tensor.numel() for tensor in decoded.tensors.values())
    click.echo(f"{len(data):,} bytes, {dense / len(data):.1f} times fewer than in float32")
    click.echo(f"{target}: {summary}")


def _check_target(target: Path) -> None:
    """Refuse to put a file in the place of anything but a plain file.

    Raises:
        OSError: there is a link, a device or the like.
    """
    if target.is_symlink():
        raise OSError(errno.EINVAL, "it is a link, which would be replaced", str(target))
    with suppress(FileNotFoundError):
        check_regular(target)


def _fitted(
    registry: Registry, file: Path, decoded: "Decoded", model: object, dataset: object
) -> str:
    """Load the tensors into the network that the file names; say how to go on.

    A file may come from anybody: a network is only built if it is a plug-in here, never from a path.
    """
    from bench.plan.build_network import build
    from bench.training.loop import load_model

    if not isinstance(model, str) or not isinstance(dataset, str):
        return "the file does not say which network it is of"
    try:
        for kind, name in (("model", model), ("data set", dataset)):
            known = registry.entries("models" if kind == "model" else "datasets")
            if name not in known:
                raise UnknownName(kind, name, known)
        network, _ = build(registry, model, registry.dataset(dataset), seed=0)
        load_model(network, decoded.tensors)
    except BenchError as error:
        raise UsageError(f"{file} is said to be {model!r} on {dataset!r}, but: {error}") from error
    return (
        f"{model} on {dataset}; bench run --methods dense --models {model} --datasets {dataset} "
        "--weights FILE evaluates it"
    )


def _table(rows: "list[LayerBytes]") -> list[str]:
    """Return the bytes by tensor and purpose; purposes that nothing needs are left out."""
    used = [name for name in _COLUMNS if any(getattr(row, name) for row in rows)]
    body = [(row.name or "(file)", *(f"{getattr(row, n):,}" for n in used), f"{row.total:,}")
            for row in rows]  # fmt: skip
    sums = [sum(getattr(row, n) for row in rows) for n in used]
    body.append(("total", *(f"{n:,}" for n in sums), f"{sum(sums):,}"))
    heads = ("tensor", *used, "bytes")
    widths = [max(len(line[i]) for line in (heads, *body)) for i in range(len(heads))]
    return [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in (heads, *body)
    ]
