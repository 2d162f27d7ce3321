"""The flags of the command line: those that several commands share, and the many of `bench run`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from bench.choices import MOST_THREADS, Budget, Controls, Coupling, Effort, ProgressStyle
from bench.cli.completion import CommaNames

RESULTS = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

plugin = click.option(
    "--plugin", "plugins", multiple=True, type=FILE, metavar="FILE",
    help="A file of yours with a method, model or data set; may be repeated.",
)  # fmt: skip
json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
data_dir = click.option(
    "--data-dir", type=RESULTS, envvar="BENCH_DATA", default=Path("data"), show_default=True,
    help="Folder of downloaded data sets. [env: BENCH_DATA]",
)  # fmt: skip
max_megapixels = click.option(
    "--max-megapixels", type=click.FloatRange(0, min_open=True), envvar="BENCH_MAX_MEGAPIXELS",
    default=89.0, show_default=True,
    help="Refuse image files of more megapixels before they are decoded. [env: BENCH_MAX_MEGAPIXELS]",
)  # fmt: skip

_RUN: list[Callable[[Any], Any]] = [
    click.argument("suite", required=False, metavar="[SUITE]"),
    click.option(
        "--methods",
        multiple=True,
        type=CommaNames("methods"),
        metavar="NAMES",
        help="Comma list; repeats, wildcards ('drop*') and `all` work.",
    ),
    click.option(
        "--models",
        multiple=True,
        type=CommaNames("models"),
        metavar="NAMES",
        help="Models, torchvision:NAME, or my_net.py:build.  [default: lenet-300-100, or what fits "
        "the data set]",
    ),
    click.option(
        "--datasets",
        multiple=True,
        type=CommaNames("datasets"),
        metavar="NAMES",
        help="Data sets, or imagefolder:PATH.  [default: mnist-5k]",
    ),
    click.option(
        "--weights",
        metavar="DEFAULT|FILE",
        help="Start pretrained: torchvision's published weights, or a safetensors file.",
    ),
    click.option(
        "--coupling",
        type=click.Choice(get_args(Coupling)),
        help="Units of layers that are added: one decision for all (tied); each layer its own, removed "
        "from it (branch) or only where all agree (intersection); none (internal).  [default: tied]",
    ),
    click.option(
        "--targets",
        metavar="LIST",
        help="Compressions (8 = an eighth is left) or, below 1, shares removed.  [default: 2,8,32]",
    ),
    click.option("--seeds", metavar="LIST", help="Seeds such as 0-9 or 0,1,2.  [default: 0-2]"),
    click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="METHOD.OPTION=VALUE",
        help="Set an option, such as dropnet.drop=0.1 or recipe.epochs=20; a comma list is a grid.",
    ),
    click.option(
        "--controls",
        type=click.Choice(get_args(Controls)),
        help="Rows added for comparison: dense and random; with `cost` dense for the method's "
        "whole cost too; with `all` also scratch and magnitude.  [default: default]",
    ),
    click.option(
        "--budget",
        type=click.Choice(get_args(Budget)),
        help="Length of a training and size of the data.  [default: quick]",
    ),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."),
    click.option(
        "--threads",
        default=1,
        show_default=True,
        type=click.IntRange(1, MOST_THREADS),
        help="CPU threads per trial; other numbers give other bits, so they are other trials.",
    ),
    click.option(
        "--jobs", default="auto", show_default=True, metavar="auto|N", help="Worker processes."
    ),
    click.option(
        "--out",
        type=RESULTS,
        metavar="FOLDER",
        help="Results folder.  [default: results/SUITE, or results/default]",
    ),
    data_dir,
    plugin,
    click.option("--retry-failed", is_flag=True, help="Run trials that failed before once more."),
    click.option(
        "--rerun-changed", is_flag=True, help="Run trials again whose plug-in has changed."
    ),
    click.option(
        "--checkpoint-seconds",
        default=30.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Save an unfinished training at most this often.",
    ),
    click.option(
        "--resident-gb",
        default=4.0,
        show_default=True,
        type=click.FloatRange(0),
        help="Data that decodes to more than this is streamed from disk; the numbers are the same.",
    ),
    max_megapixels,
    click.option(
        "--latency",
        type=click.Choice(get_args(Effort)),
        help="Time the networks after the trials, one at a time.  [default: quick; off for smoke runs]",
    ),
    click.option(
        "--progress",
        type=click.Choice(get_args(ProgressStyle)),
        default="auto",
        show_default=True,
        help="Live on a terminal, plain lines elsewhere.",
    ),
    click.option(
        "--dry-run", is_flag=True, help="Print the plan and what of it is done; run nothing."
    ),
    json,
]


def run_options(command: Any) -> Any:
    """Give a command the flags of `bench run`, in the order in which `--help` shows them."""
    for option in reversed(_RUN):
        command = option(command)
    return command
