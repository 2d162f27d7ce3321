"""cost.json is sealed: a change of it is named, its numbers are not shown, and nothing is lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.store.json_values import RecordError
from bench.store.records import CostRecord, LatencyRecord, read_cost, seal_cost
from bench.store.results import TrialFolder, write_json

ID = "0123456789ab"
COST = CostRecord(train_seconds=8.5, latency=LatencyRecord(note="none"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    home = tmp_path / ID
    home.mkdir()
    write_json(home / "cost.json", seal_cost(COST, ID).as_json())
    return home / "cost.json"


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_sealed_cost_is_read_as_it_was_written_and_can_be_sealed_again(file: Path) -> None:
    found = read_cost(file)
    assert found.is_sealed
    assert (found.id, found.train_seconds) == (ID, 8.5)
    more = found.model_copy(
        update={"latency": LatencyRecord().with_times({"speedup_measured": 2.0})}
    )
    write_json(file, seal_cost(more, ID).as_json())
    again = read_cost(file)
    assert again.sha256 != found.sha256
    assert again.latency is not None and again.latency.column("speedup_measured") == 2.0
    assert seal_cost(again, ID) == again


@pytest.mark.parametrize(
    "values",
    [
        {"train_seconds": 0.1},
        {"latency": {"speedup_measured": 1000.0}},
        {"newer_field": 1},
        {"id": "ba9876543210"},
        {"sha256": "0" * 64},
        {"sha256": None},
        {"sha256": 5},
    ],
)
def test_a_change_by_hand_is_named_and_its_numbers_are_not_given(
    file: Path, values: dict[str, Any]
) -> None:
    changed(file, **values)
    before = file.read_bytes()
    with pytest.raises(RecordError, match="does not match its checksum"):
        read_cost(file)
    cost, wrong = TrialFolder(file.parent).cost()
    assert cost.as_json() == {}
    assert str(file) in wrong
    assert ID in wrong
    assert file.read_bytes() == before


def test_the_costs_of_another_trial_are_not_taken_for_this_one(file: Path) -> None:
    write_json(file, seal_cost(COST, "ba9876543210").as_json())
    with pytest.raises(RecordError, match="belongs to trial ba9876543210"):
        read_cost(file)


def test_costs_that_older_versions_wrote_are_read_and_known_to_be_without_a_seal(
    file: Path,
) -> None:
    write_json(file, COST.as_json())
    assert not read_cost(file).is_sealed
    assert TrialFolder(file.parent).cost() == (COST, "")
    file.unlink()
    assert TrialFolder(file.parent).cost() == (CostRecord(), "")
