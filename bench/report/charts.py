"""What the figures show, apart from how it is drawn: series, axes and their ticks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.report.palette import BLACK, Look, looks_of, of_control
from bench.report.rows import target_text
from bench.report.summary import Record, Setting, records_of

Kind = Literal["rate", "cost"]


@dataclass(frozen=True)
class Estimate:
    """A mean and its interval, as positions on an axis."""

    at: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        return self.low < self.high


@dataclass(frozen=True)
class Point:
    """One group of trials.

    Attributes:
        note: printed beside it; often nothing.
        told: its numbers in words, for a pointer that rests on it.
        collapsed: number of runs at chance.
    """

    x: Estimate
    y: Estimate
    note: str
    told: str
    collapsed: int


@dataclass(frozen=True)
class Series:
    """Points of one method or control.

    Attributes:
        is_joined: whether a line may run through them: only where the method works to targets.
        is_control: drawn behind and thinner.
    """

    label: str
    look: Look
    points: tuple[Point, ...]
    is_joined: bool
    is_control: bool


@dataclass(frozen=True)
class Axis:
    """Title, limits, and ticks as (position, text)."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


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


CAPTION = (
    "Means over n seeds; bands and bars: 95 % t intervals. Hollow: controls, in the colour of the "
    "method they follow, set slightly apart sideways. Intervals wider than the figure are cut."
)
_X_TITLES = {
    "rate": "pruning rate: share of parameters removed (spaced by compression, log scale)",
    "cost": "images passed forward in all training (log scale)",
}
_Y_TITLE = "top-1 accuracy % (spaced by error, log scale)"
_ACCURACIES = (90, 50, 99, 95, 80, 70, 98, 97, 99.5, 99.9, 60, 30, 10, 85, 96, 92, 94, 93, 99.8)


def charts_of(setting: Setting, all_labels: Sequence[tuple[str, str]]) -> list[Chart]:
    """Return accuracy against pruning rate, and against cost.

    Args:
        setting: what is drawn.
        all_labels: (method, label) of everything in the report, so that colours stay the same.
    """
    looks = looks_of(all_labels)
    records = records_of(setting.groups)
    return [_chart(setting, records, looks, kind) for kind in ("rate", "cost")]


def _chart(
    setting: Setting, records: Sequence[Record], looks: dict[str, Look], kind: Kind
) -> Chart:
    dense = [r for r in records if r["role"] == "method" and r["method"] == "dense"]
    labels = dict.fromkeys(
        r["label"] for r in records if r["role"] != "method" or r["method"] != "dense"
    )
    series = [_series([r for r in records if r["label"] == label], looks, kind) for label in labels]
    own_rate = any(not s.is_joined for s in series)
    base = _dense(dense[0], kind) if dense else None
    everything = [*series, *([base] if base else [])]
    points = [p for s in everything for p in s.points]
    x = _rate_axis(everything) if kind == "rate" else _cost_axis(points)
    what = {"rate": "pruning rate", "cost": "cost"}[kind]
    return Chart(
        name=f"{setting.name}_{kind}",
        title=f"Accuracy against {what}: {setting.title}",
        is_smoke=setting.is_smoke,
        x=x,
        y=_accuracy_axis(points),
        series=tuple(_set_apart(series, x.high - x.low)),
        dense=base,
        caption=CAPTION + (" Unjoined: the rate is the method's own." if own_rate else ""),
    )


def _series(records: Sequence[Record], looks: dict[str, Look], kind: Kind) -> Series:
    first = records[0]
    is_control = first["role"] != "method"
    if is_control:
        followed = looks.get(first["control_of_label"], Look(BLACK, "X"))
        look = of_control(first["method"], followed)
    else:
        look = looks[first["label"]]
    targets = [
        r["target"] if r["target"] == r["target"] else r["control_of_target"] for r in records
    ]
    return Series(
        label=f"{first['label']}, n = {_n(records)}",
        look=look,
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
    points = (
        replace(p, x=Estimate(p.x.at + by, p.x.low + by, p.x.high + by)) for p in series.points
    )
    return replace(series, points=tuple(points))


def _dense(record: Record, kind: Kind) -> Series:
    look = Look(BLACK, "*", "dashed")
    return Series(f"dense, n = {_n([record])}", look, (_point(record, kind),), False, False)


def _n(records: Sequence[Record]) -> str:
    counts = sorted({int(r["n"]) for r in records})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _point(record: Record, kind: Kind) -> Point:
    floor = 50 / record["n_test_mean"]  # half an image, for networks without an error
    y = _estimate(record, "top1", lambda v: _accuracy_place(v, floor))
    rate, half = 100 * record["pruning_rate_mean"], record["top1_half_width"]
    x = (
        _estimate(record, "pruning_rate", _rate_place)
        if kind == "rate"
        else _estimate(record, "images_forward", lambda v: math.log10(max(v, 1)))
    )
    spread = f" ± {half:.2f}" if half == half else ""
    told = (
        f"{record['label']}, target {target_text(record)}: top-1 {record['top1_mean']:.2f}{spread} "
        f"%, removed {rate:.2f} % ({record['compression_mean']:.2f}×), "
        f"{record['images_forward_mean']:,.0f} images, n = {record['n']}"
    )
    is_method = kind == "cost" and record["role"] == "method" and record["method"] != "dense"
    note = f"{record['compression_mean']:.2g}×" if is_method else ""
    return Point(x, y, note, told, int(record["n_collapsed"]))


def _estimate(record: Record, metric: str, place: Callable[[float], float]) -> Estimate:
    mean, half = float(record[f"{metric}_mean"]), float(record[f"{metric}_half_width"])
    half = 0.0 if math.isnan(half) else half
    return Estimate(place(mean), place(mean - half), place(mean + half))


def _accuracy_place(accuracy: float, floor: float = 0.01) -> float:
    return -math.log10(min(100.0, max(100 - accuracy, floor)))


def _rate_place(rate: float) -> float:
    """log2 of the compression; an interval that reaches 1 ends at 2^14."""
    return -math.log2(min(1.0, max(1 - rate, 2**-14)))


def _rate_axis(series: Sequence[Series]) -> Axis:
    """Ticks stand at the rates that were reached, those of methods before those of controls."""
    in_order = sorted(series, key=lambda s: (s.is_control, not s.is_joined))
    reached = [p.x.at for s in in_order for p in s.points]
    low, high = _limits([p.x for s in series for p in s.points])
    chosen = _apart([0.0, *reached], (high - low) / 13)
    ticks = tuple((at, f"{_percent(1 - 2**-at)}\n{2**at:.3g}×") for at in chosen)
    return Axis(_X_TITLES["rate"], low, high, ticks)


def _percent(rate: float) -> str:
    digits = 0 if rate == 0 else 1 if rate < 0.99 else 2 if rate < 0.999 else 3
    return f"{100 * rate:.{digits}f} %"


def _cost_axis(points: Sequence[Point]) -> Axis:
    low, high = _limits([p.x for p in points])
    steps = [(d, e) for d in (1, 3, 2, 5, 7) for e in range(13)]
    places = {math.log10(d * 10**e): d * 10**e for d, e in steps}
    chosen = _apart([at for at in places if low <= at <= high], (high - low) / 9)
    return Axis(_X_TITLES["cost"], low, high, tuple((at, _count(places[at])) for at in chosen))


def _count(value: int) -> str:
    for size, letter in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return str(value)


def _accuracy_axis(points: Sequence[Point]) -> Axis:
    low, high = _limits([p.y for p in points])
    # Two runs, or one that collapsed, can have an interval of 100 points: it is cut at the edge
    # rather than let it press all means together. 0.3 is a factor of two in error.
    best, worst = max(p.y.at for p in points), min(p.y.at for p in points)
    room = 0.3 + 0.6 * (best - worst)
    low, high = max(low, worst - room), min(high, best + room)
    places = {_accuracy_place(a): f"{a:g}" for a in (*_ACCURACIES, *range(99), 99.7, 99.6, 99.95)}
    chosen = _apart([at for at in places if low <= at <= high], (high - low) / 9)
    return Axis(_Y_TITLE, low, high, tuple((at, places[at]) for at in chosen))


def _limits(estimates: Sequence[Estimate]) -> tuple[float, float]:
    low, high = min(e.low for e in estimates), max(e.high for e in estimates)
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _apart(places: Sequence[float], distance: float) -> list[float]:
    """Take places in the given order, leaving out those too near to one that was taken."""
    taken: list[float] = []
    for place in places:
        if all(abs(place - other) >= distance for other in taken):
            taken.append(place)
    return sorted(taken)
