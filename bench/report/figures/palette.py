"""One colour and one marker per method, the same in every figure of every report.

A shipped method declares its pair in its class. A plug-in takes the next free pair after a stable
hash of its name, and the results folder remembers it.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.store.results import write_json

Line = Literal["solid", "dashed", "dotted", "dashdot"]
Pair = tuple[str, str]  # names of a colour and a marker, as methods declare them

# Okabe and Ito's colours, which people with any colour vision tell apart. Black is dense's, grey is
# random's; yellow is left out because it is hardly seen on white.
COLOURS = {
    "black": "#000000", "grey": "#7F7F7F", "orange": "#E69F00", "sky": "#56B4E9",
    "green": "#009E73", "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7",
}  # fmt: skip
# By matplotlib's letters. The first are the ones most easily distinguished.
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h", "<", ">", "d", "8", "H", "X", "*")
FILE = "palette.json"
_OF_PLUGINS = tuple(itertools.product(list(COLOURS)[2:], MARKERS))
_CONTROL_LINES: dict[str, Line] = {"random": "dotted"}


@dataclass(frozen=True)
class SeriesStyle:
    """The drawing style of a series: a colour as hex digits, a marker, a line."""

    colour: str
    marker: str
    line: Line = "solid"
    is_hollow: bool = False


_UNKNOWN = SeriesStyle(COLOURS["black"], "X")  # of what a control follows, where it is not shown


class Palette:
    """The styles of all that one report shows."""

    def __init__(self, pairs: Mapping[str, Pair], labels: Iterable[tuple[str, str]]) -> None:
        """Give every label of a method its colour.

        Args:
            pairs: by method.
            labels: of methods with their options: (method, label). A method's first label, the plain
                one where it is shown, has its pair; the others have its colour and other markers.
        """
        self._pairs = pairs
        self._styles: dict[str, SeriesStyle] = {}
        taken, used = set(pairs.values()), set[Pair]()
        for method, label in sorted(set(labels)):  # the plain one sorts first
            colour, marker = pairs[method]
            line: Line = "solid"
            if (colour, marker) in used:
                start = MARKERS.index(marker) + 1
                others = (*MARKERS[start:], *MARKERS[:start])
                marker = next((m for m in others if (colour, m) not in taken), marker)
                taken.add((colour, marker))
                line = "dashed"
            used.add((colour, marker))
            self._styles[label] = SeriesStyle(COLOURS[colour], marker, line)

    def of_method(self, label: str) -> SeriesStyle:
        """Return the style of a method with its options."""
        return self._styles[label]

    def of_control(self, method: str, followed: str) -> SeriesStyle:
        """Return the style of a control: hollow, in the colour of what it follows; random's is dotted.

        Args:
            method: of the control.
            followed: the label of what it follows.
        """
        style = self._styles.get(followed, _UNKNOWN)
        marker = style.marker if method == "random" else self._pairs[method][1]
        return SeriesStyle(style.colour, marker, _CONTROL_LINES.get(method, "dashdot"), True)


def pairs_of(
    methods: Iterable[str], shipped: Mapping[str, Pair], folders: Iterable[Path]
) -> dict[str, Pair]:
    """Return the pair of every method, and have the folders remember those of plug-ins.

    Args:
        methods: names of all that is shown.
        shipped: the declared pairs, by method.
        folders: results folders; where two remember different pairs, the first counts.
    """
    folders = list(folders)
    remembered: dict[str, Pair] = {}
    for folder in folders:
        remembered = _remembered(folder) | remembered
    pairs = dict(shipped)
    plugins = sorted(set(methods) - shipped.keys())
    for name in sorted(plugins, key=lambda n: n not in remembered):  # the remembered ones first
        known, taken = remembered.get(name), set(pairs.values())
        pairs[name] = known if known and known not in taken else _next_free(name, taken)
    own = {name: pairs[name] for name in plugins}
    for folder in folders if own else ():
        _remember(folder, own)
    return pairs


def _next_free(name: str, taken: set[Pair]) -> Pair:
    first = int(hashlib.sha256(name.encode()).hexdigest(), 16) % len(_OF_PLUGINS)
    in_turn = (*_OF_PLUGINS[first:], *_OF_PLUGINS[:first])
    return next((pair for pair in in_turn if pair not in taken), in_turn[0])


def _remembered(folder: Path) -> dict[str, Pair]:
    """Read a folder's pairs; anything that is none is passed over."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return {str(k): (v[0], v[1]) for k, v in found.items() if tuple(v) in _OF_PLUGINS}
    except (OSError, ValueError, TypeError, AttributeError, LookupError):
        return {}


def _remember(folder: Path, pairs: Mapping[str, Pair]) -> None:
    before = _remembered(folder)
    now = before | dict(pairs)
    if now != before:
        with suppress(OSError):  # a colleague's folder; the hash gives the same pair again
            write_json(folder / FILE, {name: list(pair) for name, pair in sorted(now.items())})
