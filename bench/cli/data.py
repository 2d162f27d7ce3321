"""`bench data`: download data sets, check those that are there."""

from pathlib import Path

import click

from bench.errors import BenchError, DataMissing, UsageError
from bench.plan.registry import Registry


def fetch_command(names: tuple[str, ...], root: Path, plugins: tuple[Path, ...]) -> None:
    """Download each data set and read it once."""
    registry = Registry(plugins)
    for name in registry.resolve("datasets", names):
        dataset = registry.dataset(name)
        if not dataset.needs_files:
            click.echo(f"{name}: comes with the installation, nothing to fetch")
            continue
        try:
            root.mkdir(parents=True, exist_ok=True)
            dataset.fetch(root)
            remark = dataset.verify(root)
        except (OSError, RuntimeError) as error:
            why = " ".join(str(error).split())  # torchvision's are of several lines
            raise UsageError(
                f"{name} could not be downloaded into {root}: {why}; check the network, or put the "
                "files there yourself and run bench data verify"
            ) from error
        click.echo(f"{name}: ready in {root}{f'; {remark}' if remark else ''}")


def verify_command(
    names: tuple[str, ...], root: Path, plugins: tuple[Path, ...], max_megapixels: float
) -> int:
    """Check each data set, every file anew; returns 2 if one that was named is missing or damaged."""
    registry = Registry(plugins)
    bad = 0
    for name in registry.resolve("datasets", names or ("all",)):
        try:
            dataset = registry.dataset(name)
            dataset.max_megapixels = max_megapixels
            remark = dataset.verify(root)
            click.echo(
                f"{name}: good{_content(registry, name, root)}{f'; {remark}' if remark else ''}"
            )
        except BenchError as error:
            optional = isinstance(error, DataMissing) and not names
            click.echo(f"{name}: {'not here' if optional else error}")
            bad += not optional
    return 2 if bad else 0


def _content(registry: Registry, name: str, root: Path) -> str:
    """Return the digest by which trials know a data set, in words; every file is read for it."""
    from bench.cli.hashing_progress import HashingProgress
    from bench.plan.data_identity import DataIdentities
    from bench.store.file_digests import FileDigests

    hash_files = FileDigests(HashingProgress(), is_fresh=True)
    planned = DataIdentities(registry, root, hash_files).of(name, seed=0)
    return f", content {planned.digest}" if planned is not None else ""
