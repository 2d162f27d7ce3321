"""Make a report: tables, figures and the page from the finished trials of results folders."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.errors import UnknownName, UsageError
from bench.report.checklist import checklist
from bench.report.checklist import text_of as checklist_text
from bench.report.figures.charts import charts_of
from bench.report.figures.curves import curve_charts_of
from bench.report.figures.draw import Drawing, drawn
from bench.report.figures.palette import Pair, Palette, pairs_of
from bench.report.figures.reconstructions import reconstructions_of
from bench.report.load import Loaded, load
from bench.report.summary import Setting, settings, summarise
from bench.report.tables.rows import Block, block_of
from bench.report.tables.text import markdown_of, tex_of
from bench.store.atomic import whole_file
from bench.store.results import Results

FORMATS = ("csv", "md", "tex", "png", "svg", "pdf", "html")
PICTURES = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Report:
    """The report that was made.

    Attributes:
        text: the tables as Markdown, for the terminal.
        files: in the order they were written.
        checklist: what a comparison should have, and whether this one has it.
        warnings: sentences about records that could not be used, and trials that failed.
    """

    text: str
    files: tuple[Path, ...]
    checklist: str
    warnings: tuple[str, ...]


def write_report(
    results: Sequence[Results],
    out: Path,
    declared: Mapping[str, Pair],
    formats: tuple[str, ...] = ("csv", "md", "png", "html"),
    baseline: str = "random",
) -> Report:
    """Write a report into a folder.

    Args:
        results: folders whose trials are shown together.
        out: where `runs.csv`, `summary.csv`, `report.html`, `figures/` and `tables/` go.
        declared: the colour and marker that each shipped method declares. Those chosen for plug-ins are
            remembered in the results folders, in `palette.json`.
        formats: any of `FORMATS`.
        baseline: what differences are taken against; see `bench.report.summary.summarise`.

    Raises:
        UsageError: no finished trial, an unknown format or baseline, or a folder that cannot be
            written.
    """
    check_formats(formats)
    loaded = load(results)
    if loaded.runs.empty:
        raise UsageError(_nothing(results, loaded))
    summary = summarise(loaded.runs, baseline)
    found = settings(summary)
    blocks = [block_of(setting) for setting in found]
    text = markdown_of(blocks)
    try:
        files = _tables(out, blocks, formats)
        if "csv" in formats:
            files.append(_write_csv(out / "runs.csv", loaded.runs))
            files.append(_write_csv(out / "summary.csv", summary))
        files += _figures(results, out, loaded, found, blocks, declared, formats)
    except OSError as error:
        raise UsageError(f"The report cannot be written to {out} ({error.strerror})") from error
    checked = checklist_text(checklist(loaded.runs))
    return Report(text, tuple(files), checked, loaded.warnings + _left_out(loaded))


def check_formats(formats: Collection[str]) -> None:
    """Refuse a format that no report is written in.

    Raises:
        UnknownName: with the nearest ones there are.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownName("report format", name, FORMATS)


def end_table(results: Results, ids: Collection[str]) -> str:
    """Return the tables of a sweep's own trials, without definitions; nothing if none finished."""
    loaded = load([results], set(ids))
    if loaded.runs.empty:
        return ""
    return markdown_of([block_of(s) for s in settings(summarise(loaded.runs))], definitions=False)


def _tables(out: Path, blocks: Iterable[Block], formats: Collection[str]) -> list[Path]:
    files = []
    for block in blocks:
        path = out / "tables" / block.name
        if "md" in formats:
            files.append(_write_text(_with(path, "md"), markdown_of([block])))
        if "tex" in formats:
            files.append(_write_text(_with(path, "tex"), tex_of(block)))
    return files


def _figures(
    results: Sequence[Results],
    out: Path,
    loaded: Loaded,
    found: Sequence[Setting],
    blocks: Sequence[Block],
    declared: Mapping[str, Pair],
    formats: Collection[str],
) -> list[Path]:
    """Draw each figure once, for its files and for the page."""
    asked = [kind for kind in PICTURES if kind in formats]
    kinds = tuple(dict.fromkeys([*asked, *(["png"] if "html" in formats else [])]))
    if not kinds:
        return []
    charts = _drawings(loaded, found, _palette(results, loaded, declared))
    files, pictures = [], {}
    for chart in (c for each in charts.values() for c in each):
        made = drawn(chart, kinds)
        files += [_write_bytes(_with(out / "figures" / chart.name, k), made[k]) for k in asked]
        pictures[chart.name] = made.get("png", b"")
    if "html" in formats:
        from bench.report.page import page_of

        page = page_of(loaded, blocks, charts, pictures)
        files.append(_write_text(out / "report.html", page))
    return files


def _palette(results: Sequence[Results], loaded: Loaded, declared: Mapping[str, Pair]) -> Palette:
    """Return the styles of everything in the report, so that they are the same in all its figures."""
    runs = loaded.runs
    pairs = pairs_of(runs["method"], declared, [r.folder for r in results])
    methods = runs[runs["role"] == "method"]
    return Palette(pairs, zip(methods["method"], methods["label"], strict=True))


def _drawings(
    loaded: Loaded, found: Sequence[Setting], palette: Palette
) -> dict[str, list[Drawing]]:
    """Return what is drawn of every setting, by its name."""
    runs = loaded.runs
    drawings: dict[str, list[Drawing]] = {}
    for setting in found:
        pictures = reconstructions_of(setting, runs, loaded.examples)
        drawings[setting.name] = [
            *charts_of(setting, palette),
            *curve_charts_of(setting, runs, loaded.curves, palette),
            *([] if pictures is None else [pictures]),
        ]
    return drawings


def _write_bytes(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(content)
    return path


def _write_text(path: Path, content: str) -> Path:
    return _write_bytes(path, content.encode(errors="replace"))  # of names that are not UTF-8


def _write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table; floats have all the digits that tell them apart."""
    return _write_text(path, frame.to_csv(index=False, lineterminator="\n"))


def _with(path: Path, ending: str) -> Path:
    """Add an ending; a name's own dots stay."""
    return path.with_name(f"{path.name}.{ending}")


def _left_out(loaded: Loaded) -> tuple[str, ...]:
    sentences = []
    if loaded.failures:
        sentences.append(f"not in the tables, for they failed: {_trials(len(loaded.failures))}")
    if loaded.unfinished:
        sentences.append(
            f"not in the tables, for they have not run yet: {_trials(loaded.unfinished)}"
        )
    return tuple(sentences)


def _trials(n: int) -> str:
    return f"{n} trial" if n == 1 else f"{n} trials"


def _nothing(results: Sequence[Results], loaded: Loaded) -> str:
    where = ", ".join(str(r.folder) for r in results) or "no folder at all"
    why = "; ".join([*loaded.warnings, *(f"{f.label}: {f.error}" for f in loaded.failures[:1])])
    return f"There is no finished trial in {where}" + (
        f" ({why})" if why else "; bench run --methods magnitude makes some"
    )
