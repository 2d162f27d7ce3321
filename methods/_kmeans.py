"""k-means on numbers: sorted once, so that clusters are stretches and a step costs k searches.

Han, Mao & Dally, ICLR 2016 (arXiv 1510.00149), sec. 3.1 and 3.2. Lloyd's iteration; the sums of a
cluster are differences of prefix sums in float64. A cluster that runs empty moves to the value that
is furthest from its own centroid, as in scikit-learn; there a value that occurs several times can be
taken several times, here only once.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from bench.api import TrialFailed, UsageError

Seeding = Literal["linear", "density", "random"]

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32]
Bounds = npt.NDArray[np.int64]

LOWEST = np.float32(-np.inf)
# 32 clusters need about a thousand iterations, which cost less than the sort; 256 clusters of 10
# million values needed 21,284, twice the sort.
TO_THE_END = 100_000


@dataclass(frozen=True)
class Clusters:
    """The clusters that k-means found.

    Attributes:
        centroids: (k,) float32, ascending, each of them used. Fewer than were asked for where there
            are fewer different values (then they are the values), or where the iterations ran out.
        assignment: the index of each value's centroid, of the shape of the values; uint8 up to 256
            centroids, int32 above.
        inertia: sum of squared distances of values to their centroids, in float64.
        iterations: assignments that were made before one did not change; 0 if none was needed.
    """

    centroids: Tensor
    assignment: Tensor
    inertia: float
    iterations: int


def kmeans(
    values: Tensor,
    k: int,
    start: Seeding | Tensor = "linear",
    max_iterations: int = TO_THE_END,
    generator: Generator | None = None,
) -> Clusters:
    """Group numbers so that the squared distances to their group's mean are small.

    Args:
        values: float32 of any shape.
        k: how many groups at most.
        start: how the first centroids are chosen, see `first_centroids`; or the centroids, (k,).
        max_iterations: a stop before no assignment changes any more.
        generator: for the start "random".

    Raises:
        UsageError: k is not positive, or `random` has no generator.
        TrialFailed: a value is not finite.
    """
    if k < 1:
        raise UsageError(f"{k} clusters cannot be made; ask for 1 or more")
    ordered = np.sort(values.detach().to("cpu", torch.float32).reshape(-1).numpy())
    # NaN is sorted behind everything else.
    if len(ordered) and not np.isfinite(ordered[[0, -1]]).all():
        raise TrialFailed("Values that are not finite cannot be clustered; the training diverged")
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)])
    if len(starts) <= k:
        bounds, iterations = np.append(starts, len(ordered)), 0
        centroids = ordered[starts]
    else:
        first = _first(ordered, k, start, generator)
        bounds, means, iterations = _lloyd(ordered, first, max_iterations)
        centroids = means.astype(np.float32)
    return Clusters(
        torch.from_numpy(centroids),
        _assigned(values, torch.from_numpy(ordered[bounds[1:-1]])),
        _inertia(ordered, bounds, centroids),
        iterations,
    )


def first_centroids(
    values: Tensor, k: int, start: Seeding, generator: Generator | None = None
) -> Tensor:
    """Return the first centroids, (k,) float64, ascending (sec. 3.2).

    `linear` spaces them evenly from the smallest to the largest value, `density` puts the same
    number of values between neighbours, `random` draws k of the values.

    Raises:
        UsageError: `random` has no generator.
    """
    ordered = np.sort(values.detach().to("cpu", torch.float32).reshape(-1).numpy())
    return torch.from_numpy(_first(ordered, k, start, generator))


def _first(ordered: Values, k: int, start: Seeding | Tensor, generator: Generator | None) -> Floats:
    n = len(ordered)
    if isinstance(start, Tensor):
        return np.sort(start.detach().cpu().double().numpy())
    if start == "linear":
        return np.linspace(float(ordered[0]), float(ordered[-1]), k)
    if start == "density":
        return ordered[((np.arange(k) + 0.5) * n / k).astype(np.int64)].astype(np.float64)
    if generator is None:
        raise UsageError("The start 'random' draws from a generator, and none was given")
    drawn = torch.randperm(n, generator=generator)[:k].numpy()
    return np.sort(ordered[drawn].astype(np.float64))


def _lloyd(ordered: Values, centroids: Floats, most: int) -> tuple[Bounds, Floats, int]:
    """Return where clusters begin, (k + 1,), the end included; their means, (k,); the iterations.

    Args:
        ordered: (n,), ascending.
        centroids: (k,), ascending.
        most: iterations.
    """
    sums = np.zeros(len(ordered) + 1)
    np.cumsum(ordered, dtype=np.float64, out=sums[1:])
    bounds, iterations = _bounds(ordered, centroids), 0
    while iterations < most:
        iterations += 1
        centroids = _means(ordered, sums, bounds, centroids)
        before, bounds = bounds, _bounds(ordered, centroids)
        # A cluster that has just moved may still own nothing: then this is not the end.
        if (before == bounds).all() and (bounds[1:] > bounds[:-1]).all():
            break
    # Empty clusters are left only where the iterations ran out.
    used = np.flatnonzero(np.diff(bounds))
    return np.append(bounds[used], len(ordered)), centroids[used], iterations


def _bounds(ordered: Values, centroids: Floats) -> Bounds:
    """Return where the clusters of ascending centroids begin; a value midway goes to the lower one."""
    middles = (centroids[1:] + centroids[:-1]) / 2
    # Rounded down to float32, which no comparison with a float32 can tell, so that the values need
    # not be made float64 to be searched.
    cuts = middles.astype(np.float32)
    cuts = np.where(cuts > middles, np.nextafter(cuts, LOWEST), cuts)
    bounds = np.empty(len(centroids) + 1, np.int64)
    bounds[0], bounds[-1] = 0, len(ordered)
    bounds[1:-1] = np.searchsorted(ordered, cuts, side="right")
    return bounds


def _means(ordered: Values, sums: Floats, bounds: Bounds, centroids: Floats) -> Floats:
    """Return the clusters' means, ascending, the empty ones moved."""
    counts = bounds[1:] - bounds[:-1]
    if not counts.all():
        return _with_empty_moved(ordered, sums, bounds, centroids)
    at_bounds = sums[bounds]
    means = (at_bounds[1:] - at_bounds[:-1]) / counts
    # Prefix sums round; a mean lies among its values, and that of equal values is the value.
    return np.minimum(np.maximum(means, ordered[bounds[:-1]]), ordered[bounds[1:] - 1])


def _with_empty_moved(ordered: Values, sums: Floats, bounds: Bounds, centroids: Floats) -> Floats:
    """Return means where some clusters are empty: these take the values furthest from home."""
    counts = np.diff(bounds)
    filled, empty = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    totals = np.diff(sums[bounds])
    far, home = _furthest(ordered, bounds, centroids, len(empty))
    np.subtract.at(totals, home, far)
    np.subtract.at(counts, home, 1)
    means = centroids.copy()  # a cluster that gave its last value away stays, as does an empty one
    left = filled[counts[filled] > 0]
    lowest, highest = ordered[bounds[left]], ordered[bounds[left + 1] - 1]
    means[left] = np.minimum(np.maximum(totals[left] / counts[left], lowest), highest)
    means[empty[: len(far)]] = far
    return np.sort(means)


def _furthest(
    ordered: Values, bounds: Bounds, centroids: Floats, n: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return up to n different values far from their centroids, and their clusters.

    In a cluster the furthest values are those at its two ends.
    """
    reach = np.arange(min(n, int(np.diff(bounds).max())))
    from_left = np.minimum(bounds[:-1, None] + reach, bounds[1:, None] - 1)
    from_right = np.maximum(bounds[1:, None] - 1 - reach, bounds[:-1, None])
    filled = np.diff(bounds) > 0
    places = np.unique(np.concatenate([from_left[filled], from_right[filled]]))
    home = np.searchsorted(bounds, places, side="right") - 1
    far = ordered[places].astype(np.float64)
    distances = np.abs(far - centroids[home])
    by_distance = np.argsort(-distances, kind="stable")
    # The first of several equal values, in order of distance; none that stands on its centroid.
    _, firsts = np.unique(far[by_distance], return_index=True)
    chosen = by_distance[np.sort(firsts)][:n]
    chosen = chosen[distances[chosen] > 0]
    return far[chosen], home[chosen]


def _assigned(values: Tensor, firsts: Tensor) -> Tensor:
    """Return the index of each value's cluster; `firsts` (k - 1,) begin all clusters but one."""
    flat = values.detach().to("cpu", torch.float32).contiguous()
    found = torch.bucketize(flat, firsts, right=True, out_int32=True)
    return found.to(torch.uint8) if len(firsts) < 256 else found


def _inertia(ordered: Values, bounds: Bounds, centroids: Values) -> float:
    """Sum squared distances cluster by cluster: no difference of large sums."""
    inertia = 0.0
    for i, centroid in enumerate(centroids):
        distances = ordered[bounds[i] : bounds[i + 1]].astype(np.float64)
        distances -= centroid
        inertia += float(np.square(distances, out=distances).sum())
    return inertia
