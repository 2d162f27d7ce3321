"""The command line: `bench run`, `bench report` and the rest. Nothing heavy is imported here."""

import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import click

from bench import __version__
from bench.choices import MOST_THREADS
from bench.cli.completion import CommaNames
from bench.cli.flags import RESULTS, data_dir, json, max_megapixels, plugin, run_options
from bench.cli.streams import prepare_streams
from bench.errors import BenchError, in_words
from bench.system_errors import file_trouble


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
@run_options
def run(**flags: Any) -> None:
    """Train, prune and measure; finished trials are skipped.

    Run it again to go on from where it was stopped.

    SUITE is a name from `bench list suites` or a TOML file; flags win over what it says.

    \b
    bench run --methods edropout,dropnet
    bench run --methods all --models lenet-5 --datasets fashion --targets 2,4,8 --seeds 0-4
    bench run smoke
    """  # fmt: skip
    from bench.cli.run import run_command

    sys.exit(run_command(**flags))


@cli.command()
@click.argument("results", nargs=-1, type=RESULTS)
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
    type=RESULTS,
    metavar="FOLDER",
    help="Where to write.  [default: the first results folder]",
)
@plugin
@json
def report(**flags: Any) -> None:
    """Write tables and figures of finished trials.

    They are those of the newest run, or of the RESULTS folders given.

    The Markdown table goes to stdout, with the definitions of its columns under it.
    """  # fmt: skip
    from bench.cli.report import report_command

    report_command(**flags)


@cli.command("list")
@click.argument("kind", type=click.Choice(["methods", "models", "datasets", "suites"]))
@plugin
@json
def list_(kind: str, plugins: tuple[Path, ...], as_json: bool) -> None:
    """List the names of a kind, a line each."""
    from bench.cli.list import list_command

    list_command(kind, plugins, as_json)


@cli.command()
@click.argument("name", metavar="NAME|TRIAL")
@click.option(
    "--dataset", metavar="NAME", help="Build a model for this data set's inputs and targets."
)
@click.option("--results", type=RESULTS, metavar="FOLDER", help="Where to look for a trial.")
@plugin
@json
def show(
    name: str, dataset: str | None, results: Path | None, plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Show a method, model, data set, suite or trial.

    A trial is named by its id or the beginning of it, and looked for in the newest run.

    A name that is of two kinds, as a method and a suite may be, is shown for both; --json then
    gives a list.
    """
    from bench.cli.show import show_command

    show_command(name, dataset, results, plugins, as_json)


@cli.command()
@click.argument("trial", metavar="TRIAL")
@click.option("--to", "form", required=True, type=click.Choice(["torch", "onnx", "dc"]),
              help="torch.export's file, ONNX, or a Deep Compression file.")  # fmt: skip
@click.option("--results", type=RESULTS, metavar="FOLDER",
              help="Where to look for the trial.  [default: the newest run]")  # fmt: skip
@click.option("--out", type=RESULTS, metavar="FOLDER", default=Path("exports"),
              show_default=True, help="Where to write; the trial gets a folder in it.")  # fmt: skip
@plugin
def export(
    trial: str, form: Any, results: Path | None, out: Path, plugins: tuple[Path, ...]
) -> None:
    """Export a pruned network, to be run without bench.

    TRIAL is a finished trial's id or the beginning of it. Its dropped units are cut out. The written
    file is loaded again and must give the same logits; dc is the file that the trial was measured on.

    \b
    bench export 3fa9 --to onnx
    """
    from bench.cli.export import export_command

    export_command(trial, form, results, out, plugins)


@cli.command(name="import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Where the weights go.  [default: beside FILE, as .safetensors]")  # fmt: skip
@plugin
def import_file(file: Path, out: Path | None, plugins: tuple[Path, ...]) -> None:
    """Rebuild a network from a Deep Compression file.

    It also prints the bytes that each layer takes in FILE.dc.

    \b
    bench export 3fa9 --to dc
    bench import exports/3fa91b2c4d5e.dc
    """
    from bench.cli.import_file import import_command

    import_command(file, out, plugins)


@cli.command()
@click.argument("results", required=False, type=RESULTS)
@json
def status(results: Path | None, as_json: bool) -> None:
    """Count finished, failed, started and waiting trials.

    They are those of RESULTS, or of the newest run.
    """
    from bench.cli.status import status_command

    status_command(results, as_json)


@cli.command()
@click.argument("results", required=False, type=RESULTS)
@click.option("--effort", type=click.Choice(["quick", "full"]), default="full", show_default=True,
              help="How long each network is timed: up to 3 or 10 seconds a batch size.")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@click.option(
    "--threads",
    default=1,
    show_default=True,
    type=click.IntRange(1, MOST_THREADS),
    help="CPU threads.",
)
@plugin
def measure(
    results: Path | None, effort: Any, device: str, threads: int, plugins: tuple[Path, ...]
) -> None:
    """Time the finished networks of a results folder.

    Dense and compact networks take turns.

    Run it while nothing else runs. Times go into the trials' cost.json;
    trials that have them are skipped.
    """
    from bench.cli.measure import measure_command

    measure_command(results, effort, device, threads, plugins)


@cli.command("verify")
@click.argument("name", required=False, metavar="[TRIAL|FOLDER]")
@click.option("--results", type=RESULTS, metavar="FOLDER",
              help="Where to look for a trial.  [default: the newest run]")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1.")
@data_dir
@max_megapixels
@plugin
@json
def verify_results(
    name: str | None,
    results: Path | None,
    device: str,
    data_dir: Path,
    max_megapixels: float,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Count the figures of finished trials again, from their files.

    TRIAL is an id or the beginning of it, FOLDER a results folder; without either, the newest run is
    meant. Sizes, rates and files are counted from the stored network and masks; quality by putting the
    data into the network, or from stored predictions where its code is not here. Nothing is changed.

    It says which figure of which trial differs, and what could not be counted again and why. Exit code
    1: a figure differs.

    
    bench verify 3fa9
    bench verify results/default --json
    """
    from bench.cli.verify import verify_command

    sys.exit(verify_command(name, results, data_dir, max_megapixels, device, plugins, as_json))


@cli.command()
@click.argument("results", required=False, type=RESULTS)
@click.option("--repair", is_flag=True,
              help="Move what is damaged to quarantine/, and delete what was left half written.")  # fmt: skip
@json
def doctor(results: Path | None, repair: bool, as_json: bool) -> None:
    """Look for what is damaged, unreadable, missing or foreign in a results folder.

    RESULTS is a folder; without it, the newest run is meant. Nothing is changed
    without --repair. Exit code 1: something is damaged or cannot be read.
    """
    from bench.cli.doctor import doctor_command

    sys.exit(doctor_command(results, repair, as_json))


@cli.command()
@click.argument("results", required=False, type=RESULTS)
def clean(results: Path | None) -> None:
    """Empty a results folder's cache of phases.

    RESULTS is a folder; without it, the newest run is meant. Finished trials and reports stay.
    """
    from bench.cli.clean import clean_command

    clean_command(results)


@cli.group()
def data() -> None:
    """Download data sets, or check those that are there."""


@data.command()
@click.argument("names", nargs=-1, required=True, type=CommaNames("datasets"))
@data_dir
@plugin
def fetch(names: tuple[str, ...], data_dir: Path, plugins: tuple[Path, ...]) -> None:
    """Download data sets, with progress and checksums."""
    from bench.cli.data import fetch_command

    fetch_command(names, data_dir, plugins)


@data.command()
@click.argument("names", nargs=-1, type=CommaNames("datasets"))
@data_dir
@max_megapixels
@plugin
def verify(
    names: tuple[str, ...], data_dir: Path, max_megapixels: float, plugins: tuple[Path, ...]
) -> None:
    """Check every file of data sets; without names, of all of them."""
    from bench.cli.data import verify_command

    sys.exit(verify_command(names, data_dir, plugins, max_megapixels))


class _Terminated(KeyboardInterrupt):
    """SIGTERM, as schedulers send it before they kill: to be taken as Ctrl-C is."""


def _terminate(*_: Any) -> None:
    raise _Terminated


def main() -> None:
    """Run the command line and exit.

    0 is good, 1 a failed trial or a difference, 2 a wrong request or a disk that cannot be read or
    written, 130 Ctrl-C or a machine that stopped the run, and 143 SIGTERM.
    """
    signal.signal(signal.SIGTERM, _terminate)
    prepare_streams()
    code = _code_of_command()
    try:
        sys.stdout.flush()
    except BenchError as error:
        _say(f"Error: {error}")
        code = code or error.exit_code
    sys.exit(code)


def _say(text: str) -> None:
    """Print to standard error; of a file's name that is not UTF-8, what is."""
    click.echo(text.encode(errors="replace").decode(), err=True)


def _code_of_command() -> int:
    """Run the command that was asked for, say what stopped it, and return the exit code."""
    try:
        code = cli.main(standalone_mode=False)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1 if error.code else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return 2
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo("Interrupted; run the same command again to go on from here.", err=True)
        first = error.__cause__ or error  # click turns Ctrl-C into an abort
        return 143 if isinstance(first, _Terminated) else 130
    except BenchError as error:
        _say(f"Error: {error}")
        return error.exit_code
    except Exception as error:
        sentence = file_trouble(error)
        if sentence:
            _say(f"Error: {sentence}")
            return 2
        _say(f"{traceback.format_exc()}\nError: {in_words(error)}")
        return 1
    return code if isinstance(code, int) else 0
