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
            dataset.verify(root)
        except (OSError, RuntimeError) as error:
            why = " ".join(str(error).split())  # torchvision's are of several lines
            raise UsageError(
                f"{name} could not be downloaded into {root}: {why}; check the network, or put the "
                "files there yourself and run bench data verify"
            ) from error
        click.echo(f"{name}: ready in {root}")


def verify_command(names: tuple[str, ...], root: Path, plugins: tuple[Path, ...]) -> int:
    """Check each data set; returns 2 if one that was named is missing or damaged."""
    registry = Registry(plugins)
    bad = 0
    for name in registry.resolve("datasets", names or ("all",)):
        try:
            registry.dataset(name).verify(root)
            click.echo(f"{name}: good")
        except BenchError as error:
            optional = isinstance(error, DataMissing) and not names
            click.echo(f"{name}: {'not here' if optional else error}")
            bad += not optional
    return 2 if bad else 0
