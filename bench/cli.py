"""The command line: `bench run`, `bench report` and the rest. Nothing heavy is imported here."""

import sys
from pathlib import Path
from typing import Any

import click

from bench import __version__
from bench.completion import CommaNames
from bench.errors import BenchError

_RESULTS = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)

_plugin = click.option(
    "--plugin", "plugins", multiple=True, type=_FILE, metavar="FILE",
    help="A file of yours with a method, model or data set; may be repeated.",
)  # fmt: skip
_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
_data_dir = click.option(
    "--data-dir", type=_RESULTS, envvar="BENCH_DATA", default=Path("data"), show_default=True,
    help="Folder of downloaded data sets. [env: BENCH_DATA]",
)  # fmt: skip


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="bench")
def cli() -> None:
    """Run pruning methods against the same models, data, seeds and training budget.

    \b
    bench run --methods edropout,dropnet      train, prune, measure; resumes where it stopped
    bench report                              tables and figures of the newest run
    bench list methods                        what there is
    """


@cli.command()
@click.argument("suite", required=False, metavar="[SUITE]")
@click.option(
    "--methods",
    multiple=True,
    type=CommaNames("methods"),
    metavar="NAMES",
    help="Comma list; repeats, wildcards ('drop*') and `all` work.",
)
@click.option(
    "--models",
    multiple=True,
    type=CommaNames("models"),
    metavar="NAMES",
    help="Models, torchvision:NAME, or my_net.py:build.  [default: lenet-300-100]",
)
@click.option(
    "--datasets",
    multiple=True,
    type=CommaNames("datasets"),
    metavar="NAMES",
    help="Data sets, or imagefolder:PATH.  [default: mnist-5k]",
)
@click.option(
    "--weights",
    metavar="DEFAULT|FILE",
    help="Start pretrained: torchvision's published weights, or a safetensors file.",
)
@click.option(
    "--coupling",
    type=click.Choice(["tied", "branch", "intersection", "internal"]),
    help="Units of layers that are added: one decision for all (tied); each layer its own, removed "
    "from it (branch) or only where all agree (intersection); none (internal).  [default: tied]",
)
@click.option(
    "--targets",
    metavar="LIST",
    help="Compressions (8 = an eighth is left) or, below 1, shares removed.  [default: 2,8,32]",
)
@click.option("--seeds", metavar="LIST", help="Seeds such as 0-9 or 0,1,2.  [default: 0-2]")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="METHOD.OPTION=VALUE",
    help="Set an option, such as dropnet.drop=0.1 or recipe.epochs=20; a comma list is a grid.",
)
@click.option(
    "--controls",
    type=click.Choice(["none", "default", "all"]),
    help="Rows added for comparison: dense and random; with `all` magnitude, scratch and "
    "dense for the method's whole cost too.  [default: default]",
)
@click.option(
    "--budget",
    type=click.Choice(["smoke", "quick", "full"]),
    help="Length of a training and size of the data.  [default: quick]",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="CPU threads per trial; other numbers give other bits, so they are other trials.",
)
@click.option(
    "--jobs", default="auto", show_default=True, metavar="auto|N", help="Worker processes."
)
@click.option(
    "--out",
    type=_RESULTS,
    metavar="FOLDER",
    help="Results folder.  [default: results/SUITE, or results/default]",
)
@_data_dir
@_plugin
@click.option("--retry-failed", is_flag=True, help="Run trials that failed before once more.")
@click.option("--rerun-changed", is_flag=True, help="Run trials again whose plug-in has changed.")
@click.option(
    "--checkpoint-seconds",
    default=30.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Save an unfinished training at most this often.",
)
@click.option(
    "--resident-gb",
    default=4.0,
    show_default=True,
    type=click.FloatRange(0),
    help="Data that decodes to more than this is streamed from disk; the numbers are the same.",
)
@click.option(
    "--latency",
    type=click.Choice(["off", "quick", "full"]),
    help="Time the networks after the trials, one at a time.  [default: quick; off for smoke runs]",
)
@click.option(
    "--progress",
    type=click.Choice(["auto", "live", "plain", "off"]),
    default="auto",
    show_default=True,
    help="Live on a terminal, plain lines elsewhere.",
)
@click.option("--dry-run", is_flag=True, help="Print the plan and what of it is done; run nothing.")
@_json
def run(**flags: Any) -> None:
    """Train, prune and measure. What is finished is skipped; run it again to go on.

    SUITE is a name from `bench list suites` or a TOML file; flags win over what it says.

    \b
    bench run --methods edropout,dropnet
    bench run --methods all --models lenet-5 --datasets fashion --targets 2,4,8 --seeds 0-4
    bench run smoke
    """  # fmt: skip
    from bench.commands.run import run_command

    sys.exit(run_command(**flags))


@cli.command()
@click.argument("results", nargs=-1, type=_RESULTS)
@click.option(
    "--format",
    "formats",
    default="csv,md,png,svg,html",
    show_default=True,
    metavar="LIST",
    help="Any of csv, md, html, png, svg, pdf, tex.",
)
@click.option(
    "--baseline",
    default="random",
    show_default=True,
    metavar="METHOD",
    help="Differences are taken against this: random is each method's own control.",
)
@click.option("--checklist", is_flag=True,
              help="Also say what a comparison should have, and whether this one has it.")  # fmt: skip
@click.option(
    "--out",
    type=_RESULTS,
    metavar="FOLDER",
    help="Where to write.  [default: the first results folder]",
)
@_json
def report(**flags: Any) -> None:
    """Write tables and figures of the newest run, or of the RESULTS folders given.

    The Markdown table goes to stdout, with the definitions of its columns under it.
    """  # fmt: skip
    from bench.commands.report import report_command

    report_command(**flags)


@cli.command("list")
@click.argument("kind", type=click.Choice(["methods", "models", "datasets", "suites"]))
@_plugin
@_json
def list_(kind: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List what there is of a kind, a line each."""
    from bench.commands.look import list_command

    list_command(kind, plugins, as_json)


@cli.command()
@click.argument("name", metavar="NAME|TRIAL")
@click.option("--results", type=_RESULTS, metavar="FOLDER", help="Where to look for a trial.")
@_plugin
@_json
def show(name: str, results: Path | None, plugins: tuple[Path, ...], as_json: bool) -> None:
    """Show a method, model, data set or suite with its options, or a trial by (part of) its id."""
    from bench.commands.look import show_command

    show_command(name, results, plugins, as_json)


@cli.command()
@click.argument("trial", metavar="TRIAL")
@click.option("--to", "form", required=True, type=click.Choice(["torch", "onnx"]),
              help="torch.export's file, or ONNX.")  # fmt: skip
@click.option("--results", type=_RESULTS, metavar="FOLDER",
              help="Where to look for the trial.  [default: the newest run]")  # fmt: skip
@click.option("--out", type=_RESULTS, metavar="FOLDER", default=Path("exports"),
              show_default=True, help="Where to write; the trial gets a folder in it.")  # fmt: skip
@_plugin
def export(
    trial: str, form: Any, results: Path | None, out: Path, plugins: tuple[Path, ...]
) -> None:
    """Take a trial's pruned network away, without its dropped units and without bench.

    TRIAL is a finished trial's id or the beginning of it. What is written is loaded again and must
    give the same logits.

    \b
    bench export 3fa9 --to onnx
    """
    from bench.commands.export import export_command

    export_command(trial, form, results, out, plugins)


@cli.command()
@click.argument("results", required=False, type=_RESULTS)
@_json
def status(results: Path | None, as_json: bool) -> None:
    """Say how far a run is: trials finished, failed, started and waiting."""
    from bench.commands.look import status_command

    status_command(results, as_json)


@cli.command()
@click.argument("results", required=False, type=_RESULTS)
@click.option("--effort", type=click.Choice(["quick", "full"]), default="full", show_default=True,
              help="How long each network is timed: up to 3 or 10 seconds a batch size.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads."
)
@_plugin
def measure(
    results: Path | None, effort: str, device: str, threads: int, plugins: tuple[Path, ...]
) -> None:
    """Time every finished network of a results folder, dense and compact in turn.

    Run it while nothing else runs. Times go into the trials' cost.json; what has them is skipped.
    """
    from bench.commands.measure import measure_command

    measure_command(results, effort, device, threads, plugins)


@cli.command()
@click.argument("results", required=False, type=_RESULTS)
def clean(results: Path | None) -> None:
    """Empty a results folder's cache of phases; finished trials and reports stay."""
    from bench.commands.clean import clean_command

    clean_command(results)


@cli.group()
def data() -> None:
    """Download data sets, or check those that are there."""


@data.command()
@click.argument("names", nargs=-1, required=True, type=CommaNames("datasets"))
@_data_dir
@_plugin
def fetch(names: tuple[str, ...], data_dir: Path, plugins: tuple[Path, ...]) -> None:
    """Download data sets, with progress and checksums."""
    from bench.commands.data import fetch_command

    fetch_command(names, data_dir, plugins)


@data.command()
@click.argument("names", nargs=-1, type=CommaNames("datasets"))
@_data_dir
@_plugin
def verify(names: tuple[str, ...], data_dir: Path, plugins: tuple[Path, ...]) -> None:
    """Check every file of data sets; without names, of all of them."""
    from bench.commands.data import verify_command

    sys.exit(verify_command(names, data_dir, plugins))


def main() -> None:
    """Run the command line and exit: 0 good, 1 a trial failed, 2 usage, 130 interrupted."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted; run the same command again to go on from here.", err=True)
        sys.exit(130)
    except BenchError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)
