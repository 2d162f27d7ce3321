"""The contract with methods: what a trial shows is what the contract lists."""

import re
from pathlib import Path

import pytest
from small_networks import MakeTrial

from bench.training.contract import Trial
from bench.training.trial import RunningTrial

ROOT = Path(__file__).resolve().parents[2]
LISTED = {n for n in (*vars(Trial), *Trial.__annotations__) if not n.startswith("_")}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def test_a_trial_shows_what_the_contract_lists_and_nothing_else(make_trial: MakeTrial) -> None:
    trial = make_trial()
    assert public(trial) == LISTED
    trial.train()
    assert public(trial) == LISTED


def test_what_is_not_there_is_refused_with_a_pointer(make_trial: MakeTrial) -> None:
    with pytest.raises(AttributeError, match="'setting'.*docs/add-a-method.md"):
        _ = make_trial().setting  # type: ignore[attr-defined]


def test_every_entry_of_the_contract_is_documented() -> None:
    attributes = re.findall(r"^        (\w+): ", Trial.__doc__ or "", flags=re.M)
    assert set(attributes) == set(Trial.__annotations__)
    for name in LISTED - set(attributes):
        assert (getattr(Trial, name).__doc__ or "").strip(), name
    told = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`trial\.(\w+)", told))
    assert named == LISTED


def test_the_harness_implements_the_contract_itself() -> None:
    own = {name for name in LISTED - set(Trial.__annotations__) if name in vars(RunningTrial)}
    assert own == LISTED - set(Trial.__annotations__)


def test_shipped_methods_use_nothing_else() -> None:
    for file in (ROOT / "methods").glob("*.py"):
        used = set(re.findall(r"\btrial\.(\w+)", file.read_text(encoding="utf-8")))
        assert used <= LISTED, file
