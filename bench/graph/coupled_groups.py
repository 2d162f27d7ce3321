"""Groups of layers whose units are one decision, and the places of their activations in the graph."""

from collections.abc import Iterable
from dataclasses import dataclass

from bench.graph.channels import Flow
from bench.graph.layers import Reading


@dataclass(frozen=True)
class Signal:
    """A tensor in the graph.

    Attributes:
        channels: what its dimension 1 is made of.
        node, seen: the last node that changed values (not just their places), and its channels.
    """

    channels: Flow
    node: str
    seen: Flow


class Groups:
    """Layers that are added channel by channel, and what is read of them.

    Attributes:
        readings: per layer the places where another layer, or an addition, reads its units.
    """

    def __init__(self, sizes: dict[str, int], reads_sums: bool) -> None:
        """Take layers and their numbers of outputs; `reads_sums`: also where others add to a unit."""
        self.sizes, self.reads_sums = sizes, reads_sums
        self.order = {name: place for place, name in enumerate(sizes)}
        self.readings: dict[str, list[Reading]] = {}
        self._first: dict[str, str] = {}

    def first_of(self, layer: str) -> str:
        """Return the first layer of the group whose units are one decision with this layer's."""
        while self._first.get(layer, layer) != layer:
            layer = self._first[layer]
        return layer

    def tie(self, first: Flow, second: Flow) -> bool:
        """Make one decision of the units that meet here, if whole layers do; False if not."""
        one, other = self._spanning(first), self._spanning(second)
        if not one or not other:
            return False
        groups = {self.first_of(name) for name in (*one, *other)}
        first_group = min(groups, key=self.order.__getitem__)
        self._first |= dict.fromkeys(groups, first_group)
        return True

    def spread(self, refused: dict[str, str]) -> None:
        """Refuse every layer of a group that holds a refused layer."""
        why = {self.first_of(name): name for name in refused}
        for name in self.sizes:
            other = why.get(self.first_of(name))
            if other is not None and name not in refused:
                refused[name] = f"it is added to {other!r}: {refused[other]}"

    def note(self, signal: Signal) -> None:
        """Note a signal that a layer reads: here are the activations of the units behind it."""
        whole = self._spanning(signal.seen)
        if whole and len({s.repeat for s in signal.seen}) == 1:
            everybody = {name for s in signal.seen for name, _ in s.sources}
            if self.reads_sums or self._are_one(everybody):
                repeat = signal.seen[0].repeat
                self._read_at(whole, Reading(signal.node, 0, self.sizes[whole[0]], repeat))
            return
        place = 0
        for segment in signal.seen:
            reading = Reading(signal.node, place, segment.length, segment.repeat)
            place += segment.width
            names = self._spanning((segment,))
            if len(segment.sources) == len(names) and self._are_one(names):
                self._read_at(names, reading)

    def _are_one(self, names: Iterable[str]) -> bool:
        return len({self.first_of(name) for name in names}) == 1

    def _read_at(self, names: list[str], reading: Reading) -> None:
        for name in names:
            known = self.readings.setdefault(name, [])
            if reading not in known:
                known.append(reading)

    def _spanning(self, channels: Flow) -> list[str]:
        """Return the layers whose outputs are these channels, one for one; others may be added to some."""
        first = channels[0].sources if channels else ()
        found = [name for name, start in first if name and start == 0]
        place = 0
        for segment in channels:
            found = [name for name in found if (name, place) in segment.sources]
            place += segment.length
        return sorted((n for n in found if self.sizes[n] == place), key=self.order.__getitem__)
