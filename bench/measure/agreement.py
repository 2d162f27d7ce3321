"""Figures of a record held against those that are counted again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bench.store.json_values import Json
from bench.store.records import Columns
from bench.store.trial_identity import canonical

Span = tuple[float, float]  # the least and the largest value that a figure may have


@dataclass(frozen=True)
class Difference:
    """A figure that is not what its record says."""

    figure: str
    recorded: Json
    found: Json


@dataclass(frozen=True)
class LeftOut:
    """Figures that were not counted again, and why."""

    figures: tuple[str, ...]
    why: str


@dataclass
class Tally:
    """The figures of one record, each counted again or left out.

    Attributes:
        equal: to the last bit.
        bounded: not equal, but within what is known of them: a rounding, or the least of a cost.
    """

    equal: list[str] = field(default_factory=list)
    bounded: list[str] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def hold(self, figure: str, recorded: Json, found: Json, span: Span | None = None) -> None:
        """Hold a recorded value against the one that was found.

        Args:
            span: what the recorded value may be; None: the found value alone.
        """
        if canonical(recorded) == canonical(found):
            self.equal.append(figure)
        elif span is not None and _lies_in(recorded, span):
            self.bounded.append(figure)
        else:
            self.differences.append(Difference(figure, recorded, found))

    def columns(
        self, recorded: Columns, found: Columns, spans: Mapping[str, Span] | None = None
    ) -> None:
        """Hold every column that was found against the recorded one."""
        before, now = recorded.as_json(), found.as_json()
        older = [name for name in now if name not in before]
        for name in sorted(now.keys() & before.keys()):
            self.hold(name, before[name], now[name], (spans or {}).get(name))
        self.leave_out(older, "the version that wrote the record did not have them")

    def leave_out(self, figures: Iterable[str], why: str) -> None:
        """Note figures that are not counted again; those that were are not among them."""
        left = tuple(sorted(set(figures) - self.seen))
        if left:
            self.left_out.append(LeftOut(left, why))

    @property
    def seen(self) -> set[str]:
        """Names of all figures that something was said of."""
        apart = {name for each in self.left_out for name in each.figures}
        return {*self.equal, *self.bounded, *(d.figure for d in self.differences)} | apart


def _lies_in(value: Json, span: Span) -> bool:
    return isinstance(value, int | float) and span[0] <= value <= span[1]
