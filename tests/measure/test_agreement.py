"""Figures that are counted again: what counts as equal, and what rounding may do to a task's columns."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.data.tasks import TASKS
from bench.measure.agreement import LeftOut, Tally
from bench.store.records import QualityColumns

CLASSIFICATION = TASKS["classification"]


def drawn(seed: int, classes: int, close: bool) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(seed)
    outputs = torch.randn(40, classes, generator=draws) * 4
    if close:  # many ties and near ties
        outputs = (outputs * 2).round() / 2 + torch.randn(40, classes, generator=draws) * 1e-3
    return outputs, torch.randint(0, classes, (40,), generator=draws)


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 12), close=st.booleans())
def test_whatever_an_error_does_to_outputs_lies_within_the_spans(
    seed: int, classes: int, close: bool
) -> None:
    outputs, targets = drawn(seed, classes, close)
    error = outputs.abs() * 2e-3
    spans = CLASSIFICATION.spans(outputs, targets, error)
    assert spans.keys() == {"top1", "top3", "top5", "loss", "collapsed"}
    draws = torch.Generator().manual_seed(seed + 1)
    for _ in range(5):
        signs = torch.rand(outputs.shape, generator=draws) * 2 - 1
        for moved in (outputs + error * signs, outputs + error * signs.sign()):
            found = CLASSIFICATION.evaluate(moved, targets)
            values = {**found.values, "loss": found.loss, "collapsed": found.collapsed}
            for name, (low, high) in spans.items():
                assert low - 1e-9 <= values[name] <= high + 1e-9, name


def test_what_float16_loses_lies_within_the_spans() -> None:
    outputs, targets = drawn(3, 10, close=True)
    stored = outputs.half().float()
    spans = CLASSIFICATION.spans(stored, targets, stored.abs() * 2.0**-11 + 2.0**-25)
    exact = CLASSIFICATION.evaluate(outputs, targets)
    assert spans["top1"][0] <= exact.top1 <= spans["top1"][1]
    assert spans["loss"][0] <= exact.loss <= spans["loss"][1]
    assert spans["loss"][1] - spans["loss"][0] < 0.02


def test_without_an_error_or_a_tie_a_span_is_a_point() -> None:
    outputs, targets = drawn(0, 5, close=False)
    found = CLASSIFICATION.evaluate(outputs, targets)
    spans = CLASSIFICATION.spans(outputs, targets, torch.zeros(()))
    assert spans["top1"] == (found.top1, found.top1)
    assert spans["loss"] == (found.loss, found.loss)
    assert spans["collapsed"] == (found.collapsed, found.collapsed)


def test_other_tasks_say_nothing_of_rounding() -> None:
    outputs = torch.ones(3, 2)
    assert TASKS["regression"].spans(outputs, outputs, outputs) == {}


@pytest.mark.parametrize(
    ("recorded", "found", "span", "where"),
    [
        (97.5, 97.5, None, "equal"),
        (97.5, 97.50000000000001, None, "differences"),
        (97.5, 97.6, (97.4, 97.7), "bounded"),
        (97.3, 97.6, (97.4, 97.7), "differences"),
        ("97.5", 97.5, (0, 100), "differences"),
        (None, 97.5, (0, 100), "differences"),
        (1, True, None, "differences"),
        ({"fc1": {"kept": 3}}, {"fc1": {"kept": 3}}, None, "equal"),
        ({"fc1": {"kept": 3}}, {"fc1": {"kept": 4}}, None, "differences"),
    ],
)
def test_a_figure_is_equal_bounded_or_different(recorded, found, span, where) -> None:  # type: ignore[no-untyped-def]
    tally = Tally()
    tally.hold("figure", recorded, found, span)
    assert [name for name in ("equal", "bounded", "differences") if getattr(tally, name)] == [where]


def test_columns_that_a_record_lacks_are_left_out_and_none_is_left_out_that_was_counted() -> None:
    tally = Tally()
    older = QualityColumns(n_test=3, collapsed=False)
    tally.columns(older, QualityColumns(n_test=3, collapsed=True, test_loss=0.5))
    assert tally.equal == ["n_test"]
    assert [d.figure for d in tally.differences] == ["collapsed"]
    tally.leave_out(["n_test", "collapsed", "test_loss", "top1"], "no data")
    assert tally.left_out[1:] == [LeftOut(("top1",), "no data")]
    assert tally.left_out[0].figures == ("test_loss",)
