"""One colour and one marker per method, the same in every figure of every report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Line = Literal["solid", "dashed", "dotted", "dashdot"]

# Okabe and Ito's colours, which people with any colour vision tell apart. Black is dense's; yellow
# is left out because it is hardly seen on white.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"

# Markers by matplotlib's letters.
_KNOWN = {
    "dense": (BLACK, "*"),
    "random": (GREY, "X"),
    "edropout": (VERMILION, "o"),
    "dropnet": (BLUE, "s"),
    "magnitude": (ORANGE, "D"),
    "fpgm": (PURPLE, "v"),
    "dropneuron": (GREEN, "^"),
    "l1": (PURPLE, "H"),
    "deep_compression": (SKY, "P"),
}
_COLOURS = (GREEN, PURPLE, SKY, BLUE, VERMILION, ORANGE)
_MARKERS = ("p", "h", "<", ">", "d", "8", "X")
_CONTROL_LINES: dict[str, Line] = {"random": "dotted"}


@dataclass(frozen=True)
class Look:
    """How a series is drawn."""

    colour: str
    marker: str
    line: Line = "solid"
    is_hollow: bool = False


def looks_of(labels: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Assign a look to every method.

    Args:
        labels: pairs of a method's name and its label, which has its options; a method's labels
            share its colour, and differ in marker and line.
    """
    pairs = sorted(set(labels))
    names = sorted({name for name, _ in pairs})
    strangers = [name for name in names if name not in _KNOWN]
    own = {name: _of_stranger(i) for i, name in enumerate(strangers)} | _KNOWN
    looks = {}
    for name in names:
        # The plain method, whose label is its name, sorts before those with options.
        for i, label in enumerate(sorted(label for n, label in pairs if n == name)):
            colour, marker = own[name]
            if i:
                marker = _MARKERS[(_place(marker) + i) % len(_MARKERS)]
            looks[label] = Look(colour, marker, "dashed" if i else "solid")
    return looks


def of_control(method: str, followed: Look) -> Look:
    """A control has the colour of what it follows, and is hollow; random's line is dotted."""
    marker = followed.marker if method == "random" else _KNOWN.get(method, ("", "X"))[1]
    return Look(followed.colour, marker, _CONTROL_LINES.get(method, "dashdot"), is_hollow=True)


def _of_stranger(i: int) -> tuple[str, str]:
    """42 pairs, none of a known method."""
    return _COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]


def _place(marker: str) -> int:
    return _MARKERS.index(marker) if marker in _MARKERS else -1
