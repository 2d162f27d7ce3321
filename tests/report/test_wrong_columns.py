"""Sealed records whose numbers cannot be: left out of the tables and named."""

import json

import pytest
from made_up_results import Maker

from bench.report.load import load
from bench.store.records import sealed
from bench.store.results import Results


def change(results: Results, column: str, value: object) -> str:
    """Seal a record anew with another value of a column; return the trial's id."""
    file = sorted((results.folder / "trials").glob("*/result.json"))[0]
    record = json.loads(file.read_text())
    record["metrics"][column] = value
    del record["sha256"]
    file.write_text(json.dumps(sealed(record)))
    return file.parent.name


@pytest.mark.parametrize("value", ["<b>x</b>", True, -5, 101, [1]])
def test_a_quality_that_cannot_be_is_left_out_and_named(maker: Maker, value: object) -> None:
    results = maker.results
    before = load([results])
    changed = change(results, "top1", value)
    after = load([results])
    if isinstance(value, list):  # no column at all
        assert len(after.runs) == len(before.runs)
        return
    assert set(before.runs["id"]) - set(after.runs["id"]) == {changed}
    (told,) = [warning for warning in after.warnings if changed in warning]
    assert "top1" in told
    assert "must be" in told
    assert (results.folder / f"trials/{changed}/result.json").exists()
