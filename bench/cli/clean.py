"""`bench clean`: give the cache's disk space back."""

from pathlib import Path

import click

from bench.errors import UsageError
from bench.store.results import Results, newest


def clean_command(folder: Path | None) -> None:
    """Delete finished phases and saved progress; trials and reports stay."""
    results = Results(folder) if folder is not None else newest()
    if not (results.folder / "trials").is_dir():
        raise UsageError(f"{results.folder} is not a results folder: it has no trials/ in it")
    freed = 0
    for file in (results.folder / "phases").glob("**/*.safetensors"):
        freed += file.stat().st_size
        file.unlink(missing_ok=True)
    click.echo(f"{results.folder}: {freed / 2**20:.1f} MiB of cached phases deleted")
