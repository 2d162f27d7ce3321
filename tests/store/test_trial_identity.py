"""Ids are frozen: none of these may change through a modification of the code."""

from pathlib import Path

import pytest

from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.trial_identity import TrialSpec

FROZEN = {
    "dense": "b73087a3c88c",
    "magnitude 2x": "8a387450d997",
    "magnitude 8x": "6c3fcd337912",
    "dropnet 2x": "64f3751f6dd3",
    "edropout": "be4942a52da6",
    "random 2x": "bd5e1de57867",
}


def planned(**flags: object) -> dict[str, TrialSpec]:
    plan = make_plan(Registry(), requests(None, {"seeds": "0", **flags}, []))
    return plan.trials


def test_ids_of_the_default_trials_do_not_change() -> None:
    methods = {"methods": "magnitude,dropnet,edropout,random", "targets": "2,8"}
    labels = {
        f"{s.method}{f' {s.target:g}x' if s.target else ''}": i
        for i, s in planned(**methods).items()
        if not s.depends_on
    }
    assert {name: labels[name] for name in FROZEN} == FROZEN


def test_an_option_at_its_default_leaves_the_id_alone() -> None:
    plain = planned(methods="dropnet", targets="2")
    spelled = requests(
        None, {"methods": "dropnet", "targets": "2", "seeds": "0"}, ["dropnet.drop=0.2"]
    )
    assert set(make_plan(Registry(), spelled).trials) == set(plain)


def test_a_changed_option_a_recipe_and_threads_make_other_trials() -> None:
    flags = {"methods": "dropnet", "targets": "2", "seeds": "0", "controls": "none"}
    base = set(make_plan(Registry(), requests(None, flags, [])).trials)
    for setting in ("dropnet.drop=0.3", "recipe.lr=0.05"):
        other = set(make_plan(Registry(), requests(None, flags, [setting])).trials)
        assert not base & other
    assert not base & set(make_plan(Registry(), requests(None, flags, []), threads=2).trials)


@pytest.mark.parametrize("change", [{"seed": 1}, {"target": 4.0}, {"rates_of": "0" * 12}])
def test_every_field_is_part_of_the_identity(change: dict[str, object]) -> None:
    fields = {"method": "m", "method_version": 1, "model": "n", "dataset": "d", "seed": 0}
    assert TrialSpec(**fields).id != TrialSpec(**{**fields, **change}).id  # type: ignore[arg-type]


def test_a_specification_survives_json() -> None:
    spec = TrialSpec("m", 1, "n", "d", 3, 2.0, {"a": 0.1}, {"lr": 0.2}, rates_of="0" * 12)
    assert TrialSpec.from_json(spec.as_json()) == spec


def test_controls_follow_their_trials_in_the_graph() -> None:
    plan = make_plan(
        Registry(),
        requests(
            None, {"methods": "dropnet", "targets": "2,8", "seeds": "0-1", "controls": "all"}, []
        ),
    )
    place = {i: n for n, chain in enumerate(plan.chains) for i in chain.trials}
    followers = [s for s in plan.trials.values() if s.depends_on]
    assert {s.method for s in followers} == {"random", "scratch", "dense", "magnitude"}
    for spec in followers:
        own = place[spec.id]
        assert place[spec.depends_on[0]] in plan.chains[own].after
        assert place[spec.depends_on[0]] < own


def test_a_chain_holds_one_seed_and_rising_targets(tmp_path: Path) -> None:
    plan = make_plan(
        Registry(), requests(None, {"methods": "magnitude", "targets": "8,2", "seeds": "0-1"}, [])
    )
    chains = [[plan.trials[i] for i in c.trials] for c in plan.chains]
    assert all(len({s.seed for s in chain}) == 1 for chain in chains)
    assert all([s.target or 0 for s in c] == sorted(s.target or 0 for s in c) for c in chains)
