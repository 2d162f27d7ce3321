"""Flows against the plainest model there is: per channel the set of (layer, unit) behind it."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.graph import channels as flows
from bench.graph.channels import CannotFollow, Flow

SIZES = {"a": 4, "b": 6, "c": 3}
FOREVER = ("", 0)
Behind = frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Both:
    """A flow, and its naive double: per channel what is behind it and the number of its unit."""

    flow: Flow
    behind: tuple[Behind, ...]
    unit: tuple[int, ...]

    def joined(self, other: "Both") -> "Both":
        shift = max(self.unit, default=-1) + 1
        units = self.unit + tuple(u + shift for u in other.unit)
        return Both(self.flow + other.flow, self.behind + other.behind, units)

    def repeated(self, times: int) -> "Both":
        behind = tuple(b for b in self.behind for _ in range(times))
        unit = tuple(u for u in self.unit for _ in range(times))
        return Both(flows.repeated(self.flow, times), behind, unit)

    def splits_a_unit(self, place: int) -> bool:
        return 0 < place < len(self.unit) and self.unit[place - 1] == self.unit[place]

    def cut(self, start: int, stop: int) -> "Both":
        found = flows.cut(self.flow, start, stop)
        return Both(found, self.behind[start:stop], self.unit[start:stop])


def layer(name: str) -> Both:
    size = SIZES[name]
    behind = tuple(frozenset([(name, i)]) for i in range(size))
    return Both(flows.of_layer(name, size), behind, tuple(range(size)))


def forever(size: int) -> Both:
    return Both(flows.unknown(size), (frozenset([FOREVER]),) * size, tuple(range(size)))


def nothing(size: int) -> Both:
    return Both(flows.zeros(size), (frozenset(),) * size, tuple(range(size)))


def naive_of(flow: Flow) -> list[Behind]:
    """Read a flow channel by channel, from the meaning of a segment alone."""
    found = []
    for segment in flow:
        for channel in range(segment.width):
            unit = channel // segment.repeat
            behind = {s if s == FOREVER else (s[0], s[1] + unit) for s in segment.sources}
            found.append(frozenset(behind))
    return found


def summed(first: Both, second: Both) -> Both:
    behind = tuple(a | b for a, b in zip(first.behind, second.behind, strict=True))
    return Both(flows.added(first.flow, second.flow), behind, first.unit)


@st.composite
def pieces(draw: st.DrawFn, flat: bool = True) -> Both:
    """Joins, cuts, repeats and sums of layers, unknown channels and zeros."""
    found = nothing(0)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["a", "b", "c", "unknown", "zeros", "cut", "shifted sum"]))
        size = draw(st.integers(1, 3))
        if kind in SIZES:
            piece = layer(kind)
        elif kind == "unknown":
            piece = forever(size)
        elif kind == "zeros":
            piece = nothing(size)
        elif kind == "cut":
            start = draw(st.integers(0, 5))
            piece = layer("b").cut(start, draw(st.integers(start + 1, 6)))
        else:  # b without its last units, and b without its first ones
            piece = summed(layer("b").cut(0, 6 - size), layer("b").cut(size, 6))
        if flat and draw(st.booleans()):
            piece = piece.repeated(draw(st.integers(1, 3)))
        found = found.joined(piece)
    if flat and draw(st.booleans()):
        found = found.repeated(draw(st.integers(1, 3)))
    return found


@st.composite
def masks(draw: st.DrawFn) -> dict[str, Tensor]:
    named = draw(st.sets(st.sampled_from(sorted(SIZES))))
    return {n: torch.tensor(draw(st.lists(st.booleans(), min_size=s, max_size=s)))
            for n, s in SIZES.items() if n in named}  # fmt: skip


@given(pieces())
def test_width_layers_and_channels_are_those_of_the_pieces(both: Both) -> None:
    assert flows.width(both.flow) == len(both.behind)
    assert flows.layers_of(both.flow) == {name for b in both.behind for name, _ in b if name}
    assert naive_of(both.flow) == list(both.behind)


@given(pieces(), st.data())
@settings(max_examples=300)
def test_a_cut_takes_the_channels_in_its_range_or_refuses_to_split_a_unit(
    both: Both, data: st.DataObject
) -> None:
    n = len(both.behind)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    splits = start < stop and (both.splits_a_unit(start) or both.splits_a_unit(stop))
    if splits:
        with pytest.raises(CannotFollow):
            flows.cut(both.flow, start, stop)
        return
    assert naive_of(flows.cut(both.flow, start, stop)) == list(both.behind[start:stop])


@given(pieces(), st.data())
def test_cuts_of_cuts_are_cuts(both: Both, data: st.DataObject) -> None:
    n = len(both.behind)
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    try:
        part = both.cut(start, stop)
        inner = data.draw(st.integers(0, stop - start))
        found = flows.cut(part.flow, inner, stop - start)
    except CannotFollow:
        return
    assert naive_of(found) == list(both.behind[start + inner : stop])


@given(pieces(flat=False), pieces(flat=False))
@settings(max_examples=300)
def test_a_sum_has_what_either_side_has_channel_by_channel(first: Both, second: Both) -> None:
    n = min(len(first.behind), len(second.behind))
    one, other = first.cut(0, n), second.cut(0, n)
    expected = [a | b for a, b in zip(one.behind, other.behind, strict=True)]
    assert naive_of(flows.added(one.flow, other.flow)) == expected
    assert naive_of(flows.added(other.flow, one.flow)) == expected
    assert naive_of(flows.added(one.flow, one.flow)) == list(one.behind)


@given(pieces(), pieces())
@settings(max_examples=300)
def test_a_sum_of_flattened_maps_is_right_or_refused(first: Both, second: Both) -> None:
    try:
        found = flows.added(first.flow, second.flow)
    except CannotFollow:
        same_width = len(first.unit) == len(second.unit)
        same_units = same_width and all(
            first.splits_a_unit(i) == second.splits_a_unit(i) for i in range(len(first.unit))
        )
        assert not same_units
        return
    expected = [a | b for a, b in zip(first.behind, second.behind, strict=True)]
    assert naive_of(found) == expected


def lives(behind: Behind, units: dict[str, Tensor]) -> bool:
    """Whether a channel lives: nobody's channels do, and those that any living unit is added to."""
    if not behind:
        return True
    return any(name not in units or bool(units[name][unit]) for name, unit in behind)


@given(pieces(), masks())
@settings(max_examples=300)
def test_a_channel_lives_while_any_unit_behind_it_does(
    both: Both, units: dict[str, Tensor]
) -> None:
    expected = [lives(b, units) for b in both.behind]
    found = flows.alive(both.flow, units)
    if found is None:
        assert all(expected)
        assert not {name for b in both.behind for name, _ in b} & units.keys()
    else:
        assert found.dtype == torch.bool
        assert found.tolist() == expected


@given(pieces(), st.data())
@settings(max_examples=300)
def test_a_used_channel_needs_every_unit_behind_it_and_no_other(
    both: Both, data: st.DataObject
) -> None:
    n = len(both.behind)
    used = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    before = data.draw(masks())
    needed = {name: mask.clone() for name, mask in before.items()}
    flows.note_use(both.flow, torch.tensor(used, dtype=torch.bool), needed)
    wanted = {source for u, b in zip(used, both.behind, strict=True) if u for source in b}
    assert needed.keys() == before.keys()
    for name, mask in needed.items():
        expected = [bool(before[name][i]) or (name, i) in wanted for i in range(SIZES[name])]
        assert mask.tolist() == expected


def test_zeros_of_nothing_are_nothing_and_nothing_can_be_added() -> None:
    assert flows.zeros(0) == ()
    assert flows.added((), ()) == ()
    assert flows.alive((), {"a": torch.ones(4, dtype=torch.bool)}) is None
    with pytest.raises(CannotFollow, match="4 and 6 channels"):
        flows.added(layer("a").flow, layer("b").flow)
