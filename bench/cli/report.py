"""`bench report`: tables and figures from records."""

import json
from pathlib import Path

import click

from bench.errors import UsageError
from bench.plan.plugins import declared_styles
from bench.plan.registry import Registry
from bench.store.results import Results, newest


def report_command(
    results: tuple[Path, ...],
    formats: str,
    baseline: str,
    out: Path | None,
    checklist: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Write the report and print its table."""
    chosen = tuple(dict.fromkeys(f.strip() for f in formats.split(",") if f.strip()))
    from bench.report.write import check_formats, write_report

    check_formats(chosen)
    for folder in results:
        if not (folder / "trials").is_dir():
            raise UsageError(f"{folder} is not a results folder: it has no trials/ in it")
    Registry(plugins, for_records=True).import_own()
    folders = [Results(f) for f in results] or [newest()]
    done = write_report(folders, out or folders[0].folder, declared_styles(), chosen, baseline)
    for warning in done.warnings:
        click.echo(f"Note: {warning}", err=True)
    if as_json:
        click.echo(json.dumps({"results": [str(f.folder) for f in folders],
                               "files": [str(f) for f in done.files]}))  # fmt: skip
        return
    click.echo(done.text)
    if checklist:
        click.echo(done.checklist)
    named = ", ".join(str(f.folder) for f in folders)
    click.echo(f"Report of {named}:", err=True)
    for file in done.files:
        click.echo(f"  {file}", err=True)
