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

from bench.store.locks import LockRefused, locked
from bench.store.results import write_json

Line = Literal["solid", "dashed", "dotted", "dashdot"]
Pair = tuple[str, str]  # names of a colour and a marker, as methods declare them

# Okabe and Ito's colours, which people with any colour vision tell apart; yellow is left out because it
# is hardly seen on white. Black and grey are those of controls.
COLOURS = {
    "black": "#000000", "grey": "#7F7F7F", "orange": "#E69F00", "sky": "#56B4E9",
    "green": "#009E73", "blue": "#0072B2", "vermilion": "#D55E00", "purple": "#CC79A7",
}  # fmt: skip
# By matplotlib's letters. The first are the ones most easily distinguished.
MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h", "<", ">", "d", "8", "H", "X", "*")
FILE = "palette.json"
_OF_CONTROLS = ("black", "grey")
_OF_PLUGINS = tuple(itertools.product([c for c in COLOURS if c not in _OF_CONTROLS], MARKERS))
_LINES: tuple[Line, ...] = ("dashed", "dashdot", "dotted")  # of labels with options


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
                one where it is shown, has its pair; the others have its colour, other markers that no
                method has, and when these are used up other lines.
        """
        self._pairs = pairs
        self._styles: dict[str, SeriesStyle] = {}
        of_others = {(COLOURS[colour], marker) for colour, marker in pairs.values()}
        for method, label in sorted(set(labels)):  # the plain one sorts first
            name, marker = pairs[method]
            colour, start = COLOURS[name], MARKERS.index(marker) + 1
            others = [
                m for m in (*MARKERS[start:], *MARKERS[:start]) if (colour, m) not in of_others
            ]
            own = [SeriesStyle(colour, marker)]
            own += [SeriesStyle(colour, m, line) for line in _LINES for m in others or (marker,)]
            used = set(self._styles.values())
            self._styles[label] = next((style for style in own if style not in used), own[0])

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
        if method == "random":
            return SeriesStyle(style.colour, style.marker, "dotted", True)
        marker = self._pairs.get(method, ("", "X"))[1]
        line: Line = "dashdot" if style.line == "solid" else "dashed"
        return SeriesStyle(style.colour, marker, line, True)


def pairs_of(
    methods: Iterable[str], declared: Mapping[str, Pair], folders: Iterable[Path]
) -> dict[str, Pair]:
    """Return the pair of every method, and have the folders remember those of plug-ins.

    Args:
        methods: names of all that is shown.
        declared: the pairs of shipped methods; one that is none is passed over, as if not declared.
        folders: results folders; where two remember different pairs, the first counts.
    """
    folders = list(folders)
    pairs = {n: p for n, p in declared.items() if p[0] in COLOURS and p[1] in MARKERS}
    shipped = set(pairs.values())
    kept: dict[str, Pair] = {}
    for name, pair in ((n, p) for folder in folders for n, p in _remembered(folder).items()):
        if name not in pairs and pair not in (*shipped, *kept.values()):
            kept.setdefault(name, pair)
    taken = shipped | set(kept.values())
    strangers = sorted(set(methods) - pairs.keys())
    for name in strangers:
        pairs[name] = kept[name] if name in kept else _next_free(name, taken)
        taken.add(pairs[name])
    for folder in folders:
        _remember(folder, {name: pairs[name] for name in strangers}, shipped)
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


def _remember(folder: Path, pairs: Mapping[str, Pair], shipped: set[Pair]) -> None:
    """Add the pairs that a folder does not know, or had to give up to a shipped method."""
    if not pairs:
        return
    # In a colleague's folder nothing can be kept; the hash gives the same pair again.
    with suppress(OSError, LockRefused), locked(folder / ".palette.lock"):
        before = _remembered(folder)
        now = before | {n: p for n, p in pairs.items() if before.get(n) in (None, *shipped)}
        if now != before:
            write_json(folder / FILE, {name: list(pair) for name, pair in sorted(now.items())})
