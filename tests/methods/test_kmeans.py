"""k-means on numbers: against scikit-learn from the same start, and against every possible grouping."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from bench.errors import TrialFailed, UsageError
from bench.methods._kmeans import Clusters, Seeding, first_centroids, kmeans

STARTS: tuple[Seeding, ...] = ("linear", "density", "random")
finite = st.floats(-1e6, 1e6, width=32)


def weights(kind: str, n: int, hole: float, seed: int) -> Tensor:
    """Return (n,) or fewer: weights as pruning leaves them, without those below `hole`."""
    draw = np.random.default_rng(seed)
    values = {
        "normal": draw.normal, "laplace": draw.laplace,
        "uniform": lambda size: draw.uniform(-1, 1, size),
        "heavy": lambda size: draw.standard_t(2, size),
    }[kind](size=n)  # fmt: skip
    return torch.from_numpy(values[np.abs(values) >= hole].astype(np.float32))


def check_sound(values: Tensor, k: int, found: Clusters) -> None:
    """What holds for any result: nearest centroids, all of them used, and the inertia it says."""
    flat = values.double().reshape(-1)
    assert found.assignment.shape == values.shape
    assert found.assignment.dtype == (torch.uint8 if len(found.centroids) <= 256 else torch.int32)
    assert found.centroids.dtype == torch.float32
    assert bool((found.centroids.diff() > 0).all())
    index = found.assignment.reshape(-1).long()
    assert index.unique().tolist() == list(range(len(found.centroids)))
    distances = (flat[:, None] - found.centroids.double()).abs()
    own = distances.gather(1, index[:, None]).squeeze(1)
    # Centroids are rounded to float32 when all is done.
    slack = 1e-6 * float(flat.abs().max()) if len(flat) else 0.0
    assert bool((own <= distances.min(1).values + slack).all())
    assert math.isclose(found.inertia, float((own**2).sum()), rel_tol=1e-9, abs_tol=1e-30)
    assert len(found.centroids) <= k


def test_linear_start_of_five_values() -> None:
    values = torch.tensor([-1, -0.8, 0.5, 0.7, 1.1])
    assert first_centroids(values, 2, "linear").tolist() == [-1.0, float(values[-1])]
    found = kmeans(values, 2)
    assert found.centroids.tolist() == pytest.approx([-0.9, 2.3 / 3], rel=1e-6)
    assert found.assignment.tolist() == [0, 0, 1, 1, 1]
    assert found.inertia == pytest.approx(0.02 + 0.18667, abs=1e-5)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("hole", [0.0, 0.4])
@pytest.mark.parametrize("kind", ["normal", "laplace", "uniform", "heavy"])
@pytest.mark.parametrize("k", [2, 5, 16, 32])
def test_never_worse_than_scikit_learn_from_the_same_start(
    kind: str, hole: float, start: Seeding, k: int
) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    values = weights(kind, 1500, hole, seed=k)
    first = first_centroids(values, k, start, Generator().manual_seed(k))
    ours = kmeans(values, k, first, max_iterations=2000)
    theirs = cluster.KMeans(k, init=first.numpy()[:, None], n_init=1, tol=0.0, max_iter=2000)
    theirs.fit(values.double().numpy()[:, None])
    check_sound(values, k, ours)
    assert len(ours.centroids) == k
    assert ours.inertia <= theirs.inertia_ * (1 + 1e-9)


def best_inertia(values: list[float], k: int) -> float:
    """Return the least inertia over all groupings; in one dimension groups are stretches."""
    ordered = np.sort(np.array(values, np.float64))
    n = len(ordered)
    return min(
        sum(
            float(((ordered[a:b] - ordered[a:b].mean()) ** 2).sum())
            for a, b in itertools.pairwise([0, *cuts, n])
        )
        for cuts in itertools.combinations(range(1, n), min(k, n) - 1)
    )


@settings(deadline=None)
@given(st.lists(finite, min_size=1, max_size=9), st.integers(1, 5), st.sampled_from(STARTS))
def test_nothing_is_better_than_the_best_grouping(
    values: list[float], k: int, start: Seeding
) -> None:
    tensor = torch.tensor(values)
    found = kmeans(tensor, k, start, generator=Generator().manual_seed(0))
    check_sound(tensor, k, found)
    assert found.inertia >= best_inertia(values, k) * (1 - 1e-6) - 1e-6
    assert len(found.centroids) == min(k, len(set(tensor.tolist())))


@settings(deadline=None)
@given(
    k=st.integers(2, 5),
    sizes=st.lists(st.integers(1, 2), min_size=5, max_size=5),
    seed=st.integers(0, 1000),
)
def test_evenly_spaced_groups_are_found_from_a_linear_start(
    k: int, sizes: list[int], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    values = [i + float(x) for i in range(k) for x in draw.uniform(-0.1, 0.1, sizes[i])]
    found = kmeans(torch.tensor(values), k, "linear")
    assert found.inertia == pytest.approx(best_inertia(values, k), rel=1e-4, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.one_of(finite, st.sampled_from([0.0, -0.0, 1.0, 2.0])), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from(STARTS),
)
def test_any_values_give_sound_clusters(values: list[float], k: int, start: Seeding) -> None:
    tensor = torch.tensor(values)
    found = kmeans(tensor, k, start, generator=Generator().manual_seed(1))
    check_sound(tensor, k, found)
    assert len(found.centroids) == min(k, len(set(tensor.tolist())))


def test_more_iterations_are_never_worse() -> None:
    values = weights("laplace", 5000, 0.5, seed=0)
    inertias = [kmeans(values, 32, max_iterations=n).inertia for n in (1, 2, 5, 20, 100, 1000)]
    assert inertias == sorted(inertias, reverse=True)


def test_iteration_ends_when_assignments_stop_changing() -> None:
    values = weights("normal", 2000, 0.0, seed=3)
    found = kmeans(values, 8, max_iterations=10_000)
    assert 1 < found.iterations < 10_000
    again = kmeans(values, 8, found.centroids, max_iterations=10_000)
    assert again.iterations == 1
    assert torch.equal(again.assignment, found.assignment)


def test_a_cluster_that_moves_to_where_nothing_changes_is_not_the_end() -> None:
    values = torch.tensor([0.0, 1.0, 2.0, 4.0, 4.0, 4.0, 7.0])
    found = kmeans(values, 4, torch.tensor([0.0, 4.0, 4.0, 4.0]))
    assert found.centroids.tolist() == [0.0, 1.5, 4.0, 7.0]


def test_when_iterations_run_out_empty_clusters_are_left_out() -> None:
    values = torch.cat([torch.linspace(0, 1, 50), torch.tensor([1000.0])])
    found = kmeans(values, 10, "linear", max_iterations=0)
    assert len(found.centroids) == 2
    check_sound(values, 10, found)
    assert len(kmeans(values, 10, "linear").centroids) == 10


def test_a_hole_at_zero_leaves_no_centroid_unused() -> None:
    values = weights("normal", 20_000, 0.9, seed=1)
    found = kmeans(values, 32, "linear")
    assert len(found.centroids) == 32
    assert float(found.centroids.abs().min()) > 0.8


def test_few_different_values_are_their_own_centroids() -> None:
    values = torch.tensor([[0.1, -2.0, 0.1], [3.5, 3.5, 0.1]])
    found = kmeans(values, 16)
    assert found.centroids.tolist() == pytest.approx([-2.0, 0.1, 3.5])
    assert torch.equal(found.centroids[found.assignment.long()], values)
    assert (found.inertia, found.iterations) == (0.0, 0)


def test_no_values_have_no_centroids() -> None:
    found = kmeans(torch.empty(0, 3), 4)
    assert found.centroids.shape == (0,)
    assert found.assignment.shape == (0, 3)
    assert found.inertia == 0.0


def test_order_and_shape_of_the_values_do_not_matter() -> None:
    values = weights("laplace", 900, 0.0, seed=2)[:900].reshape(30, 30)
    for start in STARTS:
        found = kmeans(values, 12, start, generator=Generator().manual_seed(5))
        turned = kmeans(values.T, 12, start, generator=Generator().manual_seed(5))
        assert torch.equal(found.centroids, turned.centroids)
        assert torch.equal(found.assignment, turned.assignment.T)


def test_starts_are_what_they_are_called() -> None:
    values = torch.arange(100.0) ** 2
    linear = first_centroids(values, 5, "linear")
    assert linear.tolist() == [0.0, 9801 / 4, 9801 / 2, 9801 * 3 / 4, 9801.0]
    density = first_centroids(values, 5, "density")
    assert density.sqrt().tolist() == [10, 30, 50, 70, 90]
    drawn = first_centroids(values, 5, "random", Generator().manual_seed(0))
    assert set(drawn.tolist()) <= set(values.tolist())
    assert len(set(drawn.tolist())) == 5
    assert torch.equal(drawn, first_centroids(values, 5, "random", Generator().manual_seed(0)))


def test_more_than_256_clusters_are_numbered_in_more_than_a_byte() -> None:
    values = weights("normal", 5000, 0.0, seed=0)
    assert kmeans(values, 256).assignment.dtype == torch.uint8
    check_sound(values, 257, kmeans(values, 257))


def test_what_cannot_be_clustered_is_refused() -> None:
    with pytest.raises(UsageError, match="0 clusters"):
        kmeans(torch.ones(3), 0)
    with pytest.raises(UsageError, match="generator"):
        kmeans(torch.arange(9.0), 2, "random")
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(TrialFailed, match="not finite"):
            kmeans(torch.tensor([1.0, bad, 2.0]), 2)
