"""Test images and what each method's autoencoder makes of them, row by row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bench.report.attachments import ExampleFile, Examples
from bench.report.summary import Setting, SummaryRow, records_of
from bench.report.tables.rows import target_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

MOST_ROWS = 8  # of methods
INCHES = 0.72  # an image's side
STEP = 1.1  # from one image to the next, in sides
LABEL_INCHES = 2.1
_LETTERS = 30  # of a label in one line


@dataclass(frozen=True)
class PictureRow:
    """One row.

    Attributes:
        images: (n, height, width) grey or (n, height, width, 3) colour, 0-1.
    """

    label: str
    images: "NDArray[np.float32]"


@dataclass(frozen=True)
class Reconstructions:
    """One figure; the first row are the images themselves."""

    name: str
    title: str
    is_smoke: bool
    rows: tuple[PictureRow, ...]
    caption: str


def reconstructions_of(
    setting: Setting, runs: pd.DataFrame, files: Mapping[str, ExampleFile]
) -> Reconstructions | None:
    """Return the figure of a setting whose trials left examples; nothing for others."""
    groups = [r for r in records_of(setting.groups) if r["role"] == "method"]
    found = {str(r["group"]): _first(runs, str(r["group"]), files) for r in groups}
    groups = [r for r in groups if found[r["group"]]]
    if not groups:
        return None
    chosen = _chosen(groups)
    left_out = [_named(r) for r in groups if r not in chosen]
    rows: list[PictureRow] = []
    originals: NDArray[np.float32] | None = None
    for record in groups:
        if record not in chosen:
            continue
        trial, seed = found[record["group"]][0]
        examples = files[trial].read()
        if examples is None or not _is_same(originals, examples):
            left_out.append(f"{_named(record)} (its file is missing, changed or of other images)")
            continue
        if originals is None:
            originals = examples.images
            rows.append(PictureRow("test images", _pixels(examples.images)))
        rows.append(PictureRow(f"{_named(record)}, seed {seed}", _pixels(examples.outputs)))
    if originals is None:
        return None
    return Reconstructions(
        name=f"{setting.name}_reconstructions",
        title=f"Reconstructions: {setting.title}",
        is_smoke=setting.is_smoke,
        rows=tuple(rows),
        caption=_caption(len(originals), left_out),
    )


def paint_reconstructions(figure: "Figure", chart: Reconstructions) -> None:
    """Paint everything but title and caption: all images in one pair of axes, an image's side 1."""
    from textwrap import fill

    from matplotlib.patches import Rectangle

    axes = figure.add_subplot(aspect="equal")
    for i, row in enumerate(chart.rows):
        for j, image in enumerate(row.images):
            x, y = j * STEP, i * STEP
            axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest",
                        extent=(x, x + 1, y + 1, y))  # fmt: skip
            # White images end somewhere too.
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="#DDDDDD", linewidth=0.8))
    centres = [i * STEP + 0.5 for i in range(len(chart.rows))]
    axes.set_yticks(centres, [fill(row.label, _LETTERS) for row in chart.rows])
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlim(-0.05, len(chart.rows[0].images) * STEP)
    axes.set_ylim(len(chart.rows) * STEP, -0.05)


def size_inches(chart: Reconstructions) -> tuple[float, float]:
    """Return the width and height that leave images square."""
    columns = len(chart.rows[0].images)
    lines = max(math.ceil(len(row.label) / _LETTERS) for row in chart.rows)
    row_height = max(STEP * INCHES, 0.16 * lines)
    return LABEL_INCHES + STEP * INCHES * columns + 0.2, row_height * len(chart.rows) + 0.9


def _first(
    runs: pd.DataFrame, group: str, files: Mapping[str, ExampleFile]
) -> list[tuple[str, int]]:
    """Return the trial of the first seed that left a file, with that seed; or nothing."""
    own = runs[(runs["group"] == group) & runs["id"].isin(list(files))]
    pairs: list[dict[Any, Any]] = own.sort_values("seed")[["id", "seed"]].head(1).to_dict("records")
    return [(str(pair["id"]), int(pair["seed"])) for pair in pairs]


def _chosen(groups: Sequence[SummaryRow]) -> list[SummaryRow]:
    """Order labels and targets: every label's first target before anyone's second."""
    passed: dict[str, int] = {}
    turns = []
    for place, record in enumerate(groups):
        turns.append((passed.get(record["label"], 0), place))
        passed[record["label"]] = turns[-1][0] + 1
    taken = {place for _, place in sorted(turns)[:MOST_ROWS]}
    return [record for place, record in enumerate(groups) if place in taken]


def _named(record: SummaryRow) -> str:
    has_target = not math.isnan(float(record["target"]))
    return f"{record['label']}, {target_text(record)}" if has_target else str(record["label"])


def _is_same(originals: "NDArray[np.float32] | None", examples: Examples) -> bool:
    return originals is None or np.array_equal(originals, examples.images)


def _pixels(images: "NDArray[np.float32]") -> "NDArray[np.float32]":
    """Return what is drawn of (n, channels, height, width); two channels are averaged."""
    clipped = np.clip(images, 0, 1)
    if images.shape[1] == 3:
        return np.moveaxis(clipped, 1, -1)
    return np.asarray(clipped.mean(axis=1), dtype=np.float32)


def _caption(n: int, left_out: Sequence[str]) -> str:
    sentences = [
        f"{n} test images, and below them what each network puts out for them; of every "
        "method its first seed. Values outside 0-1 are cut. Controls are not shown."
    ]
    if left_out:
        sentences.append(f"Left out: {'; '.join(left_out)}.")
    return " ".join(sentences)
