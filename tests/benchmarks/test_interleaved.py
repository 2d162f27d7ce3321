"""Ratios come from clean rounds, round by round; disturbed rounds go, and without any there is none."""

from pathlib import Path

import pytest
from findings import BOUND_MISSED, Bound, Report
from interleaved import Meter, NoCleanRound, Spread, Variant, calls_for, measure


class World:
    """A clock and a switch counter that only move when a variant runs."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_seconds = 0.0
        self.switches = 0
        self.calls: list[str] = []

    def variant(
        self, name: str, seconds: list[float], switches: list[int], units: float = 1, **more: bool
    ) -> Variant:
        """Take the next duration and the next number of switches at every call."""
        durations, counts = iter(seconds), iter(switches)

        def run() -> None:
            self.calls.append(name)
            lap = next(durations)
            self.seconds += lap
            self.cpu_seconds += lap / 2
            self.switches += next(counts)

        return Variant(name, run, units, **more)

    @property
    def meter(self) -> Meter:
        return Meter(lambda: self.seconds, lambda: self.seconds, lambda: self.switches)


def test_variants_take_turns_after_a_warm_up() -> None:
    world = World()
    a, b = world.variant("a", [1] * 4, [0] * 4), world.variant("b", [1] * 4, [0] * 4)
    rounds = measure([a, b], 3, world.meter)
    assert world.calls == ["a", "b"] * 4
    assert len(rounds.every) == 3


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    world = World()
    # The second half of the rounds is slow for both: the ratio of medians would be another.
    slow = world.variant("slow", [2, 4, 20, 60], [0] * 4)
    fast = world.variant("fast", [1, 2, 10, 20], [0] * 4)
    rounds = measure([slow, fast], 4, world.meter, warm_up_rounds=0)
    assert rounds.times("slow", "fast").median == 2.0
    assert rounds.times("fast", "slow").median == 0.5
    assert rounds.times("slow", "fast").high == 2.25


def test_costs_are_per_unit() -> None:
    world = World()
    many = world.variant("many", [6, 6], [0, 0], units=60)
    one = world.variant("one", [1, 1], [0, 0])
    rounds = measure([many, one], 2, world.meter, warm_up_rounds=0)
    assert rounds.costs("many") == [0.1, 0.1]
    assert rounds.times("one", "many").median == pytest.approx(10)


def test_a_round_is_dropped_whole_if_one_variant_was_disturbed() -> None:
    world = World()
    a = world.variant("a", [1, 9, 1], [100, 901, 0])
    b = world.variant("b", [2, 2, 2], [0, 0, 0])
    rounds = measure([a, b], 3, world.meter, warm_up_rounds=0)
    assert (len(rounds.clean), rounds.dropped) == (2, 1)
    assert rounds.costs("a") == [1, 1]
    assert rounds.times("b", "a").median == 2
    assert rounds.switches_per_second("a") == 100


def test_the_limit_can_be_set_and_a_warm_up_is_not_guarded() -> None:
    world = World()
    a = world.variant("a", [1, 1], [10_000, 300])
    assert measure([a], 1, world.meter, most_switches_per_second=300).dropped == 0


def test_a_variant_with_more_processes_than_cores_does_not_drop_rounds() -> None:
    world = World()
    a = world.variant("a", [1], [0])
    b = world.variant("b", [1], [5000], guarded=False)
    rounds = measure([a, b], 1, world.meter, warm_up_rounds=0)
    assert rounds.dropped == 0
    assert rounds.switches_per_second("b") == 5000


def test_without_a_clean_round_there_is_no_ratio() -> None:
    world = World()
    a, b = world.variant("a", [1, 1], [0, 101]), world.variant("b", [1, 1], [222, 0])
    with pytest.raises(NoCleanRound, match=r"all 2 rounds.*more than 100.*b: 111"):
        measure([a, b], 2, world.meter, warm_up_rounds=0)


def test_cpu_time_is_compared_while_the_guard_takes_elapsed_time() -> None:
    world = World()
    meter = Meter(lambda: world.cpu_seconds, lambda: world.seconds, lambda: world.switches)
    a = world.variant("a", [1, 1], [100, 100])
    rounds = measure([a], 2, meter, warm_up_rounds=0)
    assert rounds.dropped == 0
    assert rounds.costs("a") == [0.5, 0.5]


def test_preparation_is_not_timed() -> None:
    world = World()

    def prepare() -> None:
        world.seconds += 50
        world.switches += 10_000

    ran = world.variant("a", [1], [0]).run
    rounds = measure([Variant("a", ran, prepare=prepare)], 1, world.meter, warm_up_rounds=0)
    assert rounds.costs("a") == [1]
    assert rounds.dropped == 0


def test_a_short_piece_is_repeated_until_it_fills_a_lap() -> None:
    world = World()
    piece = world.variant("piece", [5, 0.1], [0, 0]).run  # the first call is the warm-up
    assert calls_for(piece, lap_seconds=0.75, clock=lambda: world.seconds) == 8


def test_few_rounds_show_their_extremes_and_more_their_quartiles() -> None:
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3)
    assert Spread.of([1, 2, 3, 4, 100]) == Spread(3, 2, 4)


def test_a_report_prints_each_bound_and_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World()
    a, b = world.variant("a", [3, 3], [0, 0]), world.variant("b", [1, 1], [0, 0])
    rounds = measure([a, b], 2, world.meter, warm_up_rounds=0)
    report = Report("test", {"rounds": 2})
    assert report.ratio("good", rounds, "a", "b", Bound(">=", 3)).is_met
    assert report.ratio("bad", rounds, "a", "b", Bound("<=", 2.9)).is_met is False
    assert report.ratio("free", rounds, "a", "b").is_met is None
    assert report.end(tmp_path / "figures.json") == BOUND_MISSED
    printed = capsys.readouterr().out
    assert "good: 3 (extremes 3 to 3, 2 rounds, 0 dropped); bound >= 3: met" in printed
    assert "bound <= 2.9: MISSED" in printed
