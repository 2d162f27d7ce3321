"""A file where a trial's folder should be is named, and stays."""

from pathlib import Path

import pytest

from bench.errors import TrialFailed
from bench.store.results import Results
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute


def test_a_file_in_the_place_of_a_trial_is_named(tmp_path: Path) -> None:
    spec = TrialSpec("dense", 1, "lenet-5", "digits", 0)
    results = Results(tmp_path)
    results.create()
    path = results.trial(spec.id).path
    path.write_text("of somebody")
    with pytest.raises(TrialFailed, match="is no folder") as caught:
        execute(SweepContext(RunConfig(out=tmp_path)), spec, lambda done, of: None)
    assert str(path) in str(caught.value)
    assert path.read_text() == "of somebody"
