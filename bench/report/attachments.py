"""Curves of trials, and pictures of a network's outputs."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.store.json_values import Json
from bench.store.records import ResultRecord
from bench.store.results import TrialFolder, file_digest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EXAMPLES = "examples.safetensors"


@dataclass(frozen=True)
class Curve:
    """The curve that a method measured while it searched for one of its numbers.

    Attributes:
        trial: the id.
        name: of the number, which is the x-axis.
        marked: the x that the method went on with.
        columns: values by name, x among them, all of one length and by rising x.
    """

    trial: str
    name: str
    marked: float | None
    columns: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Examples:
    """Images and outputs (n, channels, height, width), pixels 0-1."""

    images: "NDArray[np.float32]"
    outputs: "NDArray[np.float32]"


@dataclass(frozen=True)
class ExampleFile:
    """Test images and what a network makes of them, and the hash the file was written with."""

    path: Path
    digest: str

    def read(self) -> "Examples | None":
        """Return what is in it; nothing where it is missing or was changed."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            if file_digest(self.path) != self.digest:
                return None
            arrays = load_file(self.path)
            return Examples(arrays["images"], arrays["outputs"])
        except (OSError, KeyError, SafetensorError):
            return None


def example_file(trial: TrialFolder, record: ResultRecord) -> dict[str, ExampleFile]:
    """Return the file of a trial that has one, by the trial's id; it is read when it is drawn."""
    digest = record.files.get(EXAMPLES)
    return {trial.id: ExampleFile(trial.path / EXAMPLES, digest)} if digest else {}


def curves_of(record: ResultRecord) -> Iterator[Curve]:
    """Read a record's curves, points by rising x."""
    for name, curve in (record.curves or {}).items():
        # A point without its x cannot be drawn.
        rows = [row for row in curve.rows if not math.isnan(_number(row.get(name)))]
        rows.sort(key=lambda row: _number(row[name]))
        names = dict.fromkeys(k for row in rows for k in row)
        columns = {k: tuple(_number(row.get(k)) for row in rows) for k in names}
        marked = _number(curve.marked)
        if rows:
            yield Curve(record.id, name, None if math.isnan(marked) else marked, columns)


def _number(value: Json) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
