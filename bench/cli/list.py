"""`bench list`: the names of a kind, without importing any of them."""

import json
from pathlib import Path

import click

from bench.plan.plugins import KINDS, Kind
from bench.plan.registry import Registry

_BY_FORM = {
    "models": {
        "torchvision:NAME": "Any classification network of torchvision, with --weights pretrained.",
        "my_net.py:build": "Your own: a function build(num_classes, in_shape).",
    },
    "datasets": {"imagefolder:PATH": "Your own images: PATH/train/CLASS/*, or PATH/CLASS/*."},
}


def list_command(kind: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Print names and what they are; reads files, imports none of them."""
    entries = Registry(plugins).entries(_kind(kind))
    if as_json:
        rows = [{"name": e.name, "summary": e.summary} for e in entries.values()]
        click.echo(json.dumps(rows, indent=1))
        return
    shown = {name: entry.summary for name, entry in entries.items()} | _BY_FORM.get(kind, {})
    width = max(len(name) for name in shown)
    for name, summary in shown.items():
        click.echo(f"{name:<{width}}  {summary}")


def _kind(name: str) -> Kind:
    return next(k for k in KINDS if k == name)
