"""The task's headline against pruning rate and cost: what is shown, apart from how it is drawn."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.report.columns import statistic_column
from bench.report.figures.axes import (
    Axis,
    Estimate,
    cost_axis,
    count_place,
    estimate,
    quality_axis,
    quality_place,
    rate_axis,
    rate_place,
)
from bench.report.figures.palette import Palette, SeriesStyle
from bench.report.summary import Setting, SummaryRow, records_of
from bench.report.tables.numbers import headline_of, mean_of, middle_of, quality_text
from bench.report.tables.rows import target_text

ChartKind = Literal["rate", "cost"]
_X = {"rate": ("pruning_rate", rate_place), "cost": ("images_forward", count_place)}


@dataclass(frozen=True)
class Point:
    """One group of trials.

    Attributes:
        note: printed beside it; often nothing.
        tooltip: its numbers in words.
        collapsed: number of runs at chance.
    """

    x: Estimate
    y: Estimate
    note: str
    tooltip: str
    collapsed: int


@dataclass(frozen=True)
class Series:
    """Points of one method or control.

    Attributes:
        is_joined: whether a line may run through them: only where the method works to targets.
        is_control: drawn behind and thinner.
    """

    label: str
    style: SeriesStyle
    points: tuple[Point, ...]
    is_joined: bool
    is_control: bool


@dataclass(frozen=True)
class Chart:
    """One figure. Positions are on the axes' own scales, so both painters draw straight lines."""

    name: str
    title: str
    is_smoke: bool
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    dense: Series | None
    caption: str


_SPREAD = {
    False: "Means over n seeds; bands and bars: 95 % t intervals. "
    "Intervals wider than the figure are cut.",
    True: "Medians over n seeds; bands and bars: from the least to the largest, sideways 95 % t "
    "intervals of means; those wider than the figure are cut.",
}
_CONTROLS = (
    " Hollow: controls, in the colour of the method they follow, set slightly apart sideways."
)


def charts_of(setting: Setting, palette: Palette) -> list[Chart]:
    """Return the task's headline against pruning rate, and against cost.

    Args:
        setting: what is drawn.
        palette: the styles of everything in the report.
    """
    records = records_of(setting.groups)
    return [_chart(setting, records, palette, kind) for kind in ("rate", "cost")]


def _chart(
    setting: Setting, records: Sequence[SummaryRow], palette: Palette, kind: ChartKind
) -> Chart:
    dense = [r for r in records if r["role"] == "method" and r["method"] == "dense"]
    labels = dict.fromkeys(
        r["label"] for r in records if r["role"] != "method" or r["method"] != "dense"
    )
    series = [
        _series([r for r in records if r["label"] == label], palette, kind) for label in labels
    ]
    own_rate = any(not s.is_joined for s in series)
    base = _dense(dense[0], palette, kind) if dense else None
    everything = [*series, *([base] if base else [])]
    points = [p for s in everything for p in s.points]
    x = _rate_axis(everything) if kind == "rate" else cost_axis([p.x for p in points])
    what = {"rate": "pruning rate", "cost": "cost"}[kind]
    quality = setting.task.headline
    subject = "Accuracy" if quality.is_percent else quality.title
    return Chart(
        name=f"{setting.name}_{kind}",
        title=f"{subject[0].upper()}{subject[1:]} against {what}: {setting.title}",
        is_smoke=setting.is_smoke,
        x=x,
        y=quality_axis(quality, [p.y for p in points], may_cut=not quality.by_median),
        series=tuple(_set_apart(series, x.high - x.low)),
        dense=base,
        caption=_SPREAD[quality.by_median]
        + (_CONTROLS if any(s.is_control for s in series) else "")
        + (" Unjoined: the rate is the method's own." if own_rate else ""),
    )


def _series(records: Sequence[SummaryRow], palette: Palette, kind: ChartKind) -> Series:
    first = records[0]
    is_control = first["role"] != "method"
    if is_control:
        style = palette.of_control(first["method"], first["control_of_label"])
    else:
        style = palette.of_method(first["label"])
    targets = [
        r["target"] if r["target"] == r["target"] else r["control_of_target"] for r in records
    ]
    return Series(
        label=f"{first['label']}, n = {_n(records)}",
        style=style,
        points=tuple(_point(r, kind) for r in records),
        is_joined=all(t == t for t in targets),  # nan, a rate of its own, differs from itself
        is_control=is_control,
    )


def _set_apart(series: Sequence[Series], width: float) -> list[Series]:
    """Move controls sideways by less than a marker, so that coinciding bars can be told apart."""
    controls = [s.label for s in series if s.is_control]
    step = width * min(0.008, 0.04 / max(1, len(controls)))
    shifts = {label: (i - (len(controls) - 1) / 2) * step for i, label in enumerate(controls)}
    return [_moved(s, shifts[s.label]) if s.is_control else s for s in series]


def _moved(series: Series, by: float) -> Series:
    return replace(series, points=tuple(replace(p, x=p.x.moved(by)) for p in series.points))


def _dense(record: SummaryRow, palette: Palette, kind: ChartKind) -> Series:
    style = replace(palette.of_method(record["label"]), line="dashed")
    return Series(f"dense, n = {_n([record])}", style, (_point(record, kind),), False, False)


def _n(records: Sequence[SummaryRow]) -> str:
    counts = sorted({int(r["n"]) for r in records})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _point(record: SummaryRow, kind: ChartKind) -> Point:
    quality = headline_of(record)
    y = estimate(middle_of(record, quality), quality_place(quality, record["n_test_mean"]))
    rate = 100 * record["pruning_rate_mean"]
    column, place = _X[kind]
    x = estimate(mean_of(record, column), place)
    tooltip = (
        f"{record['label']}, target {target_text(record)}: {_in_words(record)}, "
        f"removed {rate:.2f} % ({record['compression_mean']:.2f}×), "
        f"{record['images_forward_mean']:,.0f} images, n = {record['n']}"
    )
    is_method = kind == "cost" and record["role"] == "method" and record["method"] != "dense"
    note = f"{record['compression_mean']:.2g}×" if is_method else ""
    return Point(x, y, note, tooltip, int(record["n_collapsed"]))


def _in_words(record: SummaryRow) -> str:
    quality = headline_of(record)
    if not quality.is_percent:
        return f"{quality.title} {quality_text(record, quality)}"
    mean = record[statistic_column(quality.column, "mean")]
    half = record[statistic_column(quality.column, "half_width")]
    spread = f" ± {half:.2f}" if half == half else ""
    return f"{quality.title.removesuffix(' %')} {mean:.2f}{spread} %"


def _rate_axis(series: Sequence[Series]) -> Axis:
    """Return the axis of rates; those of methods are more important than those of controls."""
    in_order = sorted(series, key=lambda s: (s.is_control, not s.is_joined))
    estimates = [p.x for s in series for p in s.points]
    return rate_axis(estimates, [p.x.at for s in in_order for p in s.points])
