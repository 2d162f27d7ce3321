"""`bench clean`: give the cache's disk space back."""

import stat
from pathlib import Path

import click

from bench.errors import UsageError
from bench.store.results import Results, newest


def clean_command(folder: Path | None) -> None:
    """Delete finished phases and saved progress; trials and reports stay, and no link is followed.

    Raises:
        UsageError: it is no results folder, or its cache is a link to somewhere else.
    """
    results = Results(folder) if folder is not None else newest()
    if not (results.folder / "trials").is_dir():
        raise UsageError(f"{results.folder} is not a results folder: it has no trials/ in it")
    phases = results.folder / "phases"
    for place in (phases, phases / "progress"):
        if place.is_symlink():
            raise UsageError(
                f"{place} is a link to {place.readlink()}, which is not emptied: other runs may use what "
                "is there; delete the link, or the files where they are"
            )
    freed, left = 0, []
    for file in (*phases.glob("*.safetensors"), *(phases / "progress").glob("*.safetensors")):
        found = file.lstat()
        if not stat.S_ISREG(found.st_mode):
            left.append(file)
            continue
        file.unlink(missing_ok=True)
        freed += found.st_size
    for file in left:
        click.echo(f"Note: {file} is a link or no plain file, and was left", err=True)
    click.echo(f"{results.folder}: {freed / 2**20:.1f} MiB of cached phases deleted")
