"""Masks are values, not `w != 0`: which units and which weights a network keeps.

One mapping holds both kinds. A site (`"fc1"`, `"input:fc1"`) has one bit per unit, a parameter
(`"fc1.weight"`) one bit per weight. Scores are tensors of the same shapes, low = prune first.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor

from bench.errors import TrialFailed
from bench.graph.count import ParameterCount, count, reconnected
from bench.graph.structure import Layout
from bench.pruning.ranking import Bucket, lowest, lowest_of_each, lowest_over_all, ranked

Scope = Literal["layer", "global"]
Scores = Mapping[str, Tensor]
REACHED = 1 - 1e-9  # of a target: a quotient is not exact
STRETCH = 1.1  # a drop may grow by a tenth of itself to reach the target


class Masks(Mapping[str, Tensor]):
    """The masks of one network. All ones at the start.

    Args:
        layout: the network's layers and sites.
        device: where the masks live.
        seed_of_ties: gives a generator for a purpose; ties in scores are broken by it.
        target: gives the compression that drops are trimmed to; None: there is none.
    """

    def __init__(
        self,
        layout: Layout,
        device: torch.device,
        seed_of_ties: Callable[[str], torch.Generator],
        target: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.layout = layout
        self._seed_of_ties = seed_of_ties
        self._target = target
        shapes: dict[str, tuple[int, ...]] = {s.name: (s.size,) for s in layout.sites}
        shapes |= layout.weights
        self._bits = {n: torch.ones(s, dtype=torch.bool, device=device) for n, s in shapes.items()}
        self._touched: set[str] = set()
        self._may_be_empty = {site.name for site in layout.sites if site.may_be_empty}
        self._account: ParameterCount | None = None
        self.at_floor = False
        self.version = 0  # counts changes, so that others know when to look again

    def __getitem__(self, name: str) -> Tensor:
        return self._bits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __setitem__(self, name: str, mask: Tensor) -> None:
        """Replace one mask (boolean, same shape). An empty one is refused: it cuts the network."""
        current = self._bits[name]
        if mask.shape != current.shape or mask.dtype != torch.bool:
            raise TrialFailed(
                f"the mask of {name!r} must be boolean of shape {tuple(current.shape)}, "
                f"not {mask.dtype} of shape {tuple(mask.shape)}"
            )
        if not bool(mask.any()) and name not in self._may_be_empty:
            raise TrialFailed(f"the mask of {name!r} would leave nothing of it")
        # A copy: masks must not change when the tensor they came from does.
        self._bits[name] = mask.to(current.device).clone(memory_format=torch.contiguous_format)
        self._changed(name)

    @property
    def touched(self) -> dict[str, Tensor]:
        """The masks that are not all ones: all that needs to be hashed, stored or applied."""
        return {n: self._bits[n] for n in self._bits if n in self._touched}

    def load(self, masks: Mapping[str, Tensor]) -> None:
        """Set the masks given and fill all others with ones; nothing changes if they are equal."""
        if same(self.touched, masks):
            return
        for name in self._touched - set(masks):
            self._bits[name] = torch.ones_like(self._bits[name])
        self._touched.clear()
        self._account = None
        self.at_floor = False
        self.version += 1
        for name, mask in masks.items():
            self[name] = mask

    def counts(self) -> dict[str, int]:
        """Return the number of kept units or weights of every touched site and parameter."""
        return {name: int(mask.sum()) for name, mask in self.touched.items()}

    @property
    def account(self) -> ParameterCount:
        """Parameters of the network, dense and under the masks as they are now."""
        if self._account is None:
            self._account = count(self.layout, self.touched)
        return self._account

    @property
    def params_kept(self) -> int:
        """The number a target binds: parameters left once dropped units and weights are gone."""
        return self.account.params_kept

    @property
    def compression(self) -> float:
        """params_dense / params_kept."""
        return self.account.params_dense / self.account.params_kept

    def drop_lowest(
        self, score: Scores, share: float, scope: Scope = "layer", min_keep: float = 0.0
    ) -> int:
        """Drop a share of what remains, the lowest scores first.

        The count is max(1, floor(share x remaining)), per layer or over all. The drop is trimmed
        to the target, or stretched by up to a tenth of itself to reach it.

        Args:
            score: per site or parameter, low = first.
            share: 0-1.
            scope: rank within each layer or over all of them.
            min_keep: share of each layer's width that always stays; at least one unit does.

        Returns:
            How many were dropped; 0 means that the floor is reached.
        """
        buckets = self._buckets(score, min_keep)
        groups = [buckets] if scope == "global" else [[b] for b in buckets]
        # 1e-9: .29 * 100 is 28.999...
        wanted = [max(1, math.floor(share * _remaining(g) + 1e-9)) for g in groups]
        order, size = ranked(groups, wanted, STRETCH, self._ties())
        return self._drop_prefix(order, size, self._target(), sum(b.may_go for b in buckets))

    def drop_to(
        self,
        score: Scores,
        compression: float | None = None,
        scope: Scope = "layer",
        min_keep: float = 0.0,
    ) -> int:
        """Drop the lowest scores until a compression is reached, within one unit or weight.

        With scope `layer` the same share goes from every layer.

        Args:
            compression: params_dense / params_kept to reach; None: the trial's target.

        Returns:
            How many were dropped; 0 means that the floor is reached.
        """
        goal = self._target() if compression is None else compression
        if goal is None:
            raise TrialFailed("this trial has no target: name the compression to drop to")
        buckets = self._buckets(score, min_keep)
        if all(b.name in self.layout.weights for b in buckets) and not self._touched_sites():
            return self._drop_weights_to(buckets, goal, scope)
        groups = [buckets] if scope == "global" else [[b] for b in buckets]
        wanted = [_remaining(g) for g in groups]
        order, size = ranked(groups, wanted, 1.0, self._ties())
        return self._drop_prefix(order, size, goal, len(order))

    def drop_below(self, score: Scores, threshold: float) -> int:
        """Drop everything whose score is below a threshold; each layer keeps its best one."""
        dropped = 0
        for bucket in self._buckets(score, 0.0):
            below = bucket.alive[bucket.scores < threshold]
            if len(below) > bucket.may_go:
                below = bucket.alive[lowest(bucket.scores, bucket.may_go, self._ties())]
            self._clear(bucket.name, below)
            dropped += len(below)
        self._reconnect()
        return dropped

    def keep_counts(self, counts: Mapping[str, int], score: Scores) -> None:
        """Keep exactly so many of each, the highest scores: a control at another trial's rates."""
        for bucket in self._buckets({n: score[n] for n in counts}, 0.0):
            surplus = len(bucket.alive) - counts[bucket.name]
            if surplus > 0:
                gone = lowest(bucket.scores, surplus, self._ties())
                self._clear(bucket.name, bucket.alive[gone])

    def _buckets(self, score: Scores, min_keep: float) -> list[Bucket]:
        buckets = []
        for name, values in score.items():
            if name not in self._bits:
                raise TrialFailed(f"the score names {name!r}, but the network has no such mask")
            mask = self._bits[name].flatten()
            if values.shape != self._bits[name].shape:
                raise TrialFailed(
                    f"the score of {name!r} has the shape {tuple(values.shape)}, "
                    f"its mask {tuple(self._bits[name].shape)}"
                )
            alive = mask.nonzero().squeeze(1)
            scores = values.detach().flatten().to(mask.device)[alive]
            if not bool(torch.isfinite(scores).all()):
                raise TrialFailed(f"the score of {name!r} is not finite: did the training diverge?")
            least = 0 if name in self._may_be_empty else 1
            floor = max(least, math.ceil(min_keep * mask.numel() - 1e-9))
            buckets.append(Bucket(name, alive, scores, max(0, len(alive) - floor)))
        return buckets

    def _drop_prefix(
        self, order: list[tuple[str, int]], size: int, goal: float | None, may_go: int
    ) -> int:
        """Drop the first `size` of `order`, fewer if that passes the goal, more if it is near."""
        if goal is not None and self.compression >= goal:
            return 0
        if goal is not None:
            size = self._first_reaching(order, goal) or size
        self._clear_all(order[:size])
        self._reconnect()
        self.at_floor = size == may_go and (goal is None or self.compression < goal)
        return size

    def _first_reaching(self, order: list[tuple[str, int]], goal: float) -> int | None:
        """Return the shortest prefix whose removal reaches the goal; None if not even all of it does."""
        low, high = 0, len(order)
        if not order or self._compression_without(order) < goal:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            if self._compression_without(order[:middle]) >= goal:
                high = middle
            else:
                low = middle
        return high

    def _compression_without(self, gone: list[tuple[str, int]]) -> float:
        without = dict(self.touched)
        for name, index in _by_name(gone).items():
            mask = without.get(name, self._bits[name]).clone()
            mask.view(-1)[torch.tensor(index, device=mask.device)] = False
            without[name] = mask
        account = count(self.layout, without)
        return account.params_dense / account.params_kept

    def _drop_weights_to(self, buckets: list[Bucket], goal: float, scope: Scope) -> int:
        """Drop as `drop_to` does, but count arithmetically: one dropped weight is one parameter."""
        must_go = self.params_kept - math.floor(self.account.params_dense / goal + 1e-9)
        must_go = max(0, min(must_go, sum(b.may_go for b in buckets)))
        if must_go == 0:
            self.at_floor = self.compression < goal
            return 0
        taken = lowest_over_all if scope == "global" else lowest_of_each
        for name, index in taken(buckets, must_go, self._ties()).items():
            self._clear(name, index)
        self.at_floor = self.compression < goal
        return must_go

    def _clear_all(self, gone: list[tuple[str, int]]) -> None:
        for name, index in _by_name(gone).items():
            self._clear(name, torch.tensor(index, device=self._bits[name].device))

    def _reconnect(self) -> None:
        for name, mask in reconnected(self.layout, self.touched).items():
            if mask is not self._bits[name]:
                self[name] = mask

    def _clear(self, name: str, index: Tensor) -> None:
        if len(index):
            mask = self._bits[name].clone()
            mask.view(-1)[index] = False
            self[name] = mask

    def _changed(self, name: str) -> None:
        self._account = None
        self.version += 1
        if bool(self._bits[name].all()):
            self._touched.discard(name)
        else:
            self._touched.add(name)

    def _touched_sites(self) -> set[str]:
        return self._touched - set(self.layout.weights)

    def _ties(self) -> torch.Generator:
        return self._seed_of_ties(f"ties/{sum(self.counts().values())}")


def same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    """Return True where two sets of masks are equal, on whichever devices."""
    return first.keys() == second.keys() and all(
        torch.equal(first[n], second[n].to(first[n].device)) for n in first
    )


def _remaining(group: list[Bucket]) -> int:
    return sum(len(b.alive) for b in group)


def _by_name(pairs: list[tuple[str, int]]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for name, index in pairs:
        grouped.setdefault(name, []).append(index)
    return grouped
