"""Runs that meet, stop or repeat: shared folders, Ctrl-C, replaced trials and what follows them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_processes import wait_for_event
from small_networks import MakeTrial, small_mlp
from tiers import slow

from bench.methods.dropnet import DropNet
from bench.methods.random import Random
from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.results import Results
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.pending import find_pending
from bench.training.contract import Reference
from bench.training.trial import outcome_of

FLAGS = {
    "methods": "magnitude",
    "models": "fc-20-20",
    "targets": "2",
    "seeds": "0",
    "budget": "smoke",
}


def nothing(done: int, of: int) -> None:
    """Tell nobody."""


def context_of(folder: Path) -> SweepContext:
    Results(folder).create()
    return SweepContext(RunConfig(out=folder, data_dir=folder, device="cpu"))


def test_a_trial_that_another_run_has_finished_is_taken_as_it_is(tmp_path: Path) -> None:
    spec = next(iter(make_plan(Registry(), requests(None, FLAGS, [])).trials.values()))
    context = context_of(tmp_path)
    first = execute(context, spec, nothing)
    stamp = (tmp_path / "trials" / spec.id / "result.json").stat().st_mtime_ns
    assert execute(context, spec, nothing) == first
    assert (tmp_path / "trials" / spec.id / "result.json").stat().st_mtime_ns == stamp
    assert not (tmp_path / "superseded").exists()
    assert execute(context, spec, nothing, replace=True) == first
    assert len(list((tmp_path / "superseded").iterdir())) == 1


def test_what_follows_a_replaced_trial_is_replaced_too(tmp_path: Path) -> None:
    plan = make_plan(Registry(), requests(None, FLAGS, []))
    context = context_of(tmp_path)
    for spec in plan.trials.values():
        execute(context, spec, nothing)
    dense, method, control = plan.trials
    facts = tmp_path / "trials" / method / "spec.json"
    changed = json.loads(facts.read_text())
    changed["sources"]["method"] = "0" * len(changed["sources"]["method"])
    facts.write_text(json.dumps(changed))
    pending = find_pending(
        plan, context.results, Registry(), retry_failed=False, rerun_changed=True
    )
    assert pending.stale == {method, control}
    assert pending.finished == [dense]


def test_a_control_whose_masks_were_changed_says_so(tmp_path: Path) -> None:
    plan = make_plan(Registry(), requests(None, FLAGS, []))
    context = context_of(tmp_path)
    _, method, control = plan.trials.values()
    execute(context, method, nothing)
    masks = tmp_path / "trials" / method.id / "masks.safetensors"
    masks.write_bytes(masks.read_bytes()[:-1])
    with pytest.raises(Exception, match="is not the file that its record was written with"):
        execute(context, control, nothing)
    assert "masks.safetensors" in context.results.trial(control.id).error().error


def test_a_floor_met_exactly_by_a_lower_target_ends_the_next_one(make_trial: MakeTrial) -> None:
    method = DropNet(drop=0.9, min_keep=0.5)
    floor = make_trial(small_mlp, target=1e9)
    method.prune(floor)
    exact = floor.masks.compression
    for target in (exact, 10 * exact):  # the second meets the first one's phases
        trial = make_trial(small_mlp, target=target)
        method.prune(trial)
        assert trial.masks.compression == exact
        assert outcome_of(trial).unreachable == (target > exact)


def test_a_control_of_a_method_that_does_not_retrain_is_not_retrained(
    make_trial: MakeTrial,
) -> None:
    trial = make_trial(small_mlp)
    reference = Reference("pretrained", ({"fc1.weight": 300},), 1.0, False, {}, 3)
    object.__setattr__(trial._inputs, "reference", reference)
    Random().prune(trial)
    assert trial.masks.counts() == {"fc1.weight": 300}
    assert trial._ledger.cost.epochs == 3  # the dense start and nothing after it


def is_gone(group: int, seconds: float = 10) -> bool:
    """Whether a process group ends within some seconds; Python's resource tracker leaves last."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    ("jobs", "asked", "code"),
    [("2", signal.SIGTERM, 143), slow("1", signal.SIGTERM, 143),
     slow("2", signal.SIGINT, 130), slow("1", signal.SIGINT, 130)],
)  # fmt: skip
def test_a_signal_stops_a_run_and_leaves_no_process(
    tmp_path: Path, jobs: str, asked: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-P", "-m", "bench", "run", "--methods", "magnitude", "--seeds", "0-9",
               "--set", "recipe.epochs=200", "--out", str(tmp_path / "r"), "--jobs", jobs,
               "--json"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # A background job of a script is born deaf to Ctrl-C, and so are its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        wait_for_event(process, "epoch")
        os.killpg(process.pid, asked)
        _, err = process.communicate(timeout=120)
        assert process.returncode == code
        assert err.endswith("Interrupted; run the same command again to go on from here.\n")
        assert "Warning" not in err
        assert is_gone(process.pid)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_reader_that_goes_away_harms_no_trial(tmp_path: Path) -> None:
    command = f"{sys.executable} -P -m bench run --methods dense --models fc-20-20 --seeds 0-1 " \
              f"--budget smoke --jobs 1 --json --out {tmp_path / 'r'} | true"  # fmt: skip
    subprocess.run(["bash", "-c", command], check=True, capture_output=True)
    assert len(list((tmp_path / "r").glob("trials/*/result.json"))) == 2
    assert not list((tmp_path / "r").glob("trials/*/error.json"))
