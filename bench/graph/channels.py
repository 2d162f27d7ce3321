"""The origin of a tensor's channels: the units of the layers that stand behind each of them.

A *flow* describes dimension 1 of one tensor in the network. A channel is alive while any of the units
that are added into it lives, so additions, concatenations, slices and zero-padding all have a flow.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

# A source that never dies: the network's input, or values that nothing is known of.
ALWAYS = ("", 0)
Origin = tuple[str, int]


@dataclass(frozen=True)
class Segment:
    """A run of channels with the same history.

    Attributes:
        sources: the layers whose outputs are added into these channels, each with the place of the
            first channel among its outputs. Without any source the channels are zero for good.
        length: number of units.
        repeat: how many channels in a row each unit has (flattened maps).
    """

    sources: frozenset[Origin]
    length: int
    repeat: int = 1

    @property
    def width(self) -> int:
        return self.length * self.repeat

    def part(self, start: int, stop: int) -> "Segment":
        """Return units start to stop of this segment."""
        moved = frozenset(s if s == ALWAYS else (s[0], s[1] + start) for s in self.sources)
        return replace(self, sources=moved, length=stop - start)


Flow = tuple[Segment, ...]


class CannotFollow(Exception):
    """An operation after which it is not known what a channel is."""


def of_layer(name: str, size: int) -> Flow:
    """Return the flow of a layer's outputs."""
    return (Segment(frozenset([(name, 0)]), size),)


def unknown(size: int) -> Flow:
    """Return a flow of channels that are always alive."""
    return (Segment(frozenset([ALWAYS]), size),)


def zeros(size: int) -> Flow:
    """Return a flow of channels that are zero whatever the units do."""
    return (Segment(frozenset(), size),) if size else ()


def width(flow: Flow) -> int:
    return sum(segment.width for segment in flow)


def layers_of(flow: Flow) -> set[str]:
    """Return the names of the layers that some channel comes from."""
    return {name for segment in flow for name, _ in segment.sources if name}


def repeated(flow: Flow, times: int) -> Flow:
    """Return a flow where every channel becomes `times` channels in a row: a flattened map."""
    return tuple(replace(segment, repeat=segment.repeat * times) for segment in flow)


def cut(flow: Flow, start: int, stop: int) -> Flow:
    """Return channels start to stop of a flow.

    Raises:
        CannotFollow: the cut goes through the channels of one unit.
    """
    found = []
    place = 0
    for segment in flow:
        first, last = max(start - place, 0), min(stop - place, segment.width)
        place += segment.width
        if first >= last:
            continue
        if first % segment.repeat or last % segment.repeat:
            raise CannotFollow("the slice goes through a flattened map")
        found.append(segment.part(first // segment.repeat, last // segment.repeat))
    return tuple(found)


def added(first: Flow, second: Flow) -> Flow:
    """Return the flow of a channel-wise sum: a channel has the sources of both terms.

    Raises:
        CannotFollow: they do not have the same channels.
    """
    if width(first) != width(second):
        raise CannotFollow(f"{width(first)} and {width(second)} channels are added")
    edges = sorted({0, *_edges(first), *_edges(second)})
    summed = []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        (a,), (b,) = cut(first, start, stop), cut(second, start, stop)
        if a.repeat != b.repeat:
            raise CannotFollow("a flattened map is added to a vector")
        summed.append(replace(a, sources=a.sources | b.sources))
    return tuple(summed)


def _edges(flow: Flow) -> Iterator[int]:
    place = 0
    for segment in flow:
        place += segment.width
        yield place


def alive(flow: Flow, units: Mapping[str, Tensor]) -> Tensor | None:
    """Return the channels that live under masks, boolean (channels,); None: all of them.

    Args:
        units: per layer which outputs live; a layer that is missing has lost nothing.
    """
    # A channel without sources was dead before any mask: it counts as nobody's.
    if not any(name in units for name in layers_of(flow)):
        return None
    device = next(iter(units.values())).device
    return torch.cat([_segment_alive(segment, units, device) for segment in flow])


def _segment_alive(segment: Segment, units: Mapping[str, Tensor], device: torch.device) -> Tensor:
    whole = not segment.sources or any(name not in units for name, _ in segment.sources)
    lives = torch.full((segment.length,), whole, dtype=torch.bool, device=device)
    if not whole:
        for name, start in segment.sources:
            lives |= units[name][start : start + segment.length]
    return lives.repeat_interleave(segment.repeat) if segment.repeat > 1 else lives


def note_use(flow: Flow, used: Tensor, needed: Mapping[str, Tensor]) -> None:
    """Mark in `needed` the units behind the used channels.

    Args:
        used: boolean (channels,).
        needed: per layer which outputs are needed; changed in place.
    """
    place = 0
    for segment in flow:
        wanted = used[place : place + segment.width].view(-1, segment.repeat).any(dim=1)
        place += segment.width
        for name, start in segment.sources:
            if name in needed:
                needed[name][start : start + segment.length] |= wanted
