"""Finished networks are measured from their files, by a process that runs no method."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from child_processes import members, wait_for_event

from bench.errors import MachineFailed, TrialFailed
from bench.plan.data_identity import DataIdentities
from bench.plan.expand import make_plan
from bench.plan.registry import Registry
from bench.plan.request import requests
from bench.store.records import ResultRecord
from bench.store.results import Results
from bench.store.source_copies import SourceCopies
from bench.store.trial_identity import TrialSpec
from bench.sweep import local_workers
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.measurer import MeasuringProcess, SharedMeasurer, measure, shared
from bench.sweep.pending import find_pending
from bench.sweep.progress import reporter

HEAD = """
from dataclasses import dataclass
import functools, gc, multiprocessing, os, types
import numpy as np
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from bench.api import Dataset, Images, Method, Split, network

@dataclass(frozen=True)
class Asked(Method):
    rate, level = "emergent", "weight"

    def prune(self, trial):
        trial.train()
        model = trial.model
{body}

class Marked(Dataset):
    '''Test images alone have the pixel value 251.'''

    name = "marked"
    shape, classes, mean, std = (1, 8, 8), 4, (0.5,), (0.25,)

    def load(self, root):
        g = torch.Generator().manual_seed(1)
        y = torch.arange(400) % 4
        x = (torch.rand(400, 1, 8, 8, generator=g) * 50 + 60 * y.view(-1, 1, 1, 1)).byte()
        x[300:] = 251
        parts = (Images(x[a:b], y[a:b]) for a, b in ((0, 200), (200, 300), (300, 400)))
        self.kept_by_its_author = Split(*parts)
        return self.kept_by_its_author

class Net(nn.Module):
    def __init__(self, outputs, shape):
        super().__init__()
        self.fc1, self.drop = nn.Linear(shape[1] * shape[2], 20), nn.Dropout(0.5)
        self.act, self.fc2 = nn.ReLU(), nn.Linear(20, outputs)
        self.scale, self.calls, self.function = 1.0, 0, torch.relu
        self.box = types.SimpleNamespace(scale=1.0)  # inside of which nobody looks
        self.register_buffer("shift", torch.zeros(20), persistent=False)

    def forward(self, x):
        self.calls += 1
        x = self.drop(self.act(self.fc1(x.flatten(1))))
        return self.fc2((self.function(x) + self.shift) * self.scale * self.box.scale)

@network(recipe=__import__("bench.api", fromlist=["Recipe"]).Recipe(epochs=2))
def small(outputs, shape):
    {before_building}
    return Net(outputs, shape)
"""  # fmt: skip


def nothing(done: int, of: int) -> None:
    """Tell nobody."""


UNBUILDABLE = 'multiprocessing.current_process().name != "measurer" or os._exit(3)'


def prepared(
    folder: Path, body: str, before: str = "", dataset: str = "digits"
) -> tuple[RunConfig, TrialSpec]:
    """A configuration and the one trial of a plug-in method, whose last lines are `body`."""
    plugin = folder / "asked.py"
    plugin.write_text(
        HEAD.format(body=textwrap.indent(textwrap.dedent(body), " " * 8), before_building=before)
    )
    flags = {"methods": "asked", "models": "small", "datasets": dataset, "seeds": "0",
             "controls": "none"}  # fmt: skip
    registry = Registry([plugin])
    data = DataIdentities(registry, folder)
    (spec,) = make_plan(registry, requests(None, flags, []), data=data).trials.values()
    Results(folder / "out").create()
    for files in registry.files_read():
        SourceCopies(folder / "out" / "sources").keep(files)
    config = RunConfig(
        out=folder / "out", data_dir=folder, device="cpu", plugins=(plugin,), data=tuple(data.found)
    )
    return config, spec


def run(folder: Path, body: str, dataset: str = "digits") -> ResultRecord:
    config, spec = prepared(folder, body, dataset=dataset)
    return execute(SweepContext(config), spec, nothing)


HALF = """
mask = torch.ones(20, 64, dtype=torch.bool)
mask[:, ::2] = False
trial.masks["fc1.weight"] = mask
"""


# -- what a method may not leave -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("model.fc2.register_forward_hook(lambda m, a, o: o.flip(0))", "hook.*on fc2 at the end.*without it"),
        ("model.register_forward_pre_hook(lambda m, a: (a[0] * 2,))", "hook.*on the network at the end"),
        ("model.act = nn.Tanh()", "put a Tanh in the place of the module 'act' (ReLU)"),
        ("model.act = nn.Sequential(model.act)", "added the module 'act.0'"),
        ("model.fc2.bias = None", "'bias' of the module 'fc2' (Linear)"),
        ("model.register_buffer('own', torch.ones(1))", "'own' of the network itself"),
        ("model.scale = 3.0", "attribute 'scale' of the network itself"),
        ("model.function = torch.tanh", "attribute 'function' of the network itself"),
        ("model.forward = lambda x: x", "forward of the network was replaced"),
        ("model.box.scale = 3.0", "computes something else than its stored weights"),
        ("torch.set_num_threads(3)", "threads is 3 at the end"),
        ("model.act.inplace = True", "attribute 'inplace' of the module 'act' (ReLU)"),
    ],
)  # fmt: skip
def test_a_network_that_is_no_longer_the_registrys_is_refused_by_name(
    tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(TrialFailed) as refused:
        run(tmp_path, HALF + body)
    for part in words.split(".*"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list((tmp_path / "out").glob("trials/*/error.json"))
    assert not list((tmp_path / "out").glob("trials/*/result.json"))


def test_what_use_and_dropout_change_and_torchs_own_pruning_are_no_differences(
    tmp_path: Path,
) -> None:
    plain = run(tmp_path, HALF)
    other = tmp_path / "other"
    other.mkdir()
    body = """
    model.drop.p = 0.1
    torch_prune.custom_from_mask(model.fc1, "weight", mask)
    model.fc2.weight.data = model.fc2.weight.data.t().contiguous().t()  # another order in memory
    """
    stripped = run(other, HALF + textwrap.dedent(body))
    assert stripped.metrics == plain.metrics
    assert stripped.metrics.compression > 1.5


def test_a_cheat_by_a_hook_is_not_measured_dense(tmp_path: Path) -> None:
    body = """
    import copy
    dense, box = copy.deepcopy(model), []
    dense._forward_pre_hooks.clear()
    model.register_forward_pre_hook(lambda m, a: (box.clear(), box.append(a[0]))[0])
    model.fc2.register_forward_hook(lambda m, a, o: dense(box[0]))
    """
    with pytest.raises(TrialFailed, match="hook.*on the network"):
        run(tmp_path, HALF + textwrap.dedent(body))


# -- where the test images are ---------------------------------------------------------------------


def test_no_test_image_is_in_the_process_while_a_method_runs(tmp_path: Path) -> None:
    body = """
    kinds = torch.Tensor | np.ndarray
    whole = [o for o in gc.get_objects() if issubclass(type(o), kinds) and str(o.dtype).endswith("uint8")]
    for found in whole:
        found = torch.from_numpy(found.copy()) if isinstance(found, np.ndarray) else found
        if found.dim() == 4:
            stored = torch.tensor([], dtype=torch.uint8).set_(found.untyped_storage())
            images = stored[: len(stored) // 64 * 64].view(-1, 64)
            assert not (images == 251).all(dim=1).any(), "test images"
    assert whole
    """
    record = run(tmp_path, textwrap.dedent(body), dataset="marked")
    assert record.metrics.n_test == 100


def test_parts_of_their_own_are_those_of_the_whole(tmp_path: Path) -> None:
    for name in ("digits", "mnist-5k", "sparse-regression"):
        dataset = Registry().dataset(name)
        split = dataset.load(tmp_path)
        validation, train = dataset.load_parts(tmp_path, ("validation", "train"))
        assert torch.equal(train.x, split.train.x)
        assert torch.equal(train.y, split.train.y)
        assert torch.equal(validation.x, split.validation.x)
        assert train.x.untyped_storage().nbytes() == train.x.nbytes


# -- the files between -----------------------------------------------------------------------------


class Stopped(BaseException):
    """A kill, seen from inside."""


class Dying:
    """A measurer that is killed, and leaves half a file."""

    def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
        assert (folder / "handover.json").exists()
        assert (folder / "kept-0.safetensors").exists()
        (folder / "predictions.safetensors.1.part").write_bytes(b"half")
        (folder / "model.dc").write_bytes(b"of older code")
        raise Stopped


def test_a_kill_between_hand_over_and_record_is_made_good(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF + "trial.keep('a/b')\ntrial.keep('whole', masked=False)")
    context = SweepContext(config)
    with pytest.raises(Stopped):
        execute(context, spec, nothing, measurer=Dying())
    folder = tmp_path / "out" / "trials" / spec.id
    assert not (folder / "result.json").exists()
    record = execute(context, spec, nothing)
    names = {"cost.json", "env.json", "log.jsonl", "masks.safetensors", "model.safetensors",
             "predictions.safetensors", "result.json", "spec.json"}  # fmt: skip
    assert {file.name for file in folder.iterdir()} == names
    assert set(record.files) == {name for name in names if name.endswith(".safetensors")}
    assert set(record.kept) == {"a/b", "whole"}
    again = tmp_path / "again"
    again.mkdir()
    (tmp_path / "asked.py").rename(again / "asked.py")
    assert run(again, HALF + "trial.keep('a/b')\ntrial.keep('whole', masked=False)") == record


def test_weights_that_were_changed_on_the_way_are_refused(tmp_path: Path) -> None:
    class Swapping:
        def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
            data = bytearray((folder / "model.safetensors").read_bytes())
            data[-1] ^= 64
            (folder / "model.safetensors").write_bytes(bytes(data))
            return measure(SweepContext(config), spec, folder)

    config, spec = prepared(tmp_path, HALF)
    with pytest.raises(TrialFailed, match="computes something else"):
        execute(SweepContext(config), spec, nothing, measurer=Swapping())


# -- a process of its own --------------------------------------------------------------------------


def test_a_process_measures_as_this_one_does_and_is_started_again_once(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF)
    here = execute(SweepContext(config), spec, nothing)
    with MeasuringProcess(config) as measurer:
        assert execute(SweepContext(config), spec, nothing, True, measurer) == here
        measurer._starting.join()
        measurer._process.kill()
        measurer._process.join()
        assert execute(SweepContext(config), spec, nothing, True, measurer) == here
        process = measurer._process
    assert not process.is_alive()


def test_several_workers_share_a_process_and_its_restart(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF)
    here = execute(SweepContext(config), spec, nothing)
    with MeasuringProcess(config) as measurer, shared(measurer) as address:
        workers = [SharedMeasurer(address), SharedMeasurer(address)]
        for worker in workers:
            assert execute(SweepContext(config), spec, nothing, True, worker) == here
            measurer._process.kill()
            measurer._process.join()
        measurer._start = lambda: None  # type: ignore[method-assign]
        with pytest.raises(MachineFailed, match="ended from outside, twice"):
            execute(SweepContext(config), spec, nothing, True, workers[0])


@pytest.mark.slow
def test_a_sweep_with_one_measurer_gives_the_records_of_one_with_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def one(config: RunConfig) -> Iterator[str]:
        with MeasuringProcess(config) as measurer, shared(measurer) as address:
            yield address

    found = []
    for name, measurers in (("many", local_workers._measurer_of_all), ("one", one)):
        monkeypatch.setattr(local_workers, "_measurer_of_all", measurers)
        flags = {"methods": "magnitude", "seeds": "0-3", "controls": "none", "targets": "4"}
        registry = Registry()
        plan = make_plan(registry, requests(None, flags, []))
        config = RunConfig(out=tmp_path / name, device="cpu", jobs=2, progress="off")
        results = Results(config.out)
        results.create()
        pending = find_pending(plan, results, registry, False, False)
        outcome = local_workers.sweep(plan, pending, config, reporter("off", False))
        assert not outcome.failed
        found.append({i: results.trial(i).result() for i in outcome.finished})
    assert found[0] == found[1]
    assert len(found[0]) >= 4


def test_a_process_that_ends_twice_stops_the_run_and_blames_no_trial(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF, UNBUILDABLE)
    twice = pytest.raises(MachineFailed, match="ended from outside, twice.*same command again")
    with MeasuringProcess(config) as measurer, twice:
        execute(SweepContext(config), spec, nothing, False, measurer)
    assert Results(config.out).trial(spec.id).status() == "started"  # the next run goes on


def test_a_shared_process_that_is_gone_blames_no_trial(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF)
    with MeasuringProcess(config) as measurer, shared(measurer) as address:
        worker = SharedMeasurer(address)
        worker._connection.close()
        with pytest.raises(MachineFailed, match="is gone"):
            execute(SweepContext(config), spec, nothing, False, worker)
    assert Results(config.out).trial(spec.id).status() == "started"


def test_what_stops_the_measuring_is_told_in_its_own_words(tmp_path: Path) -> None:
    config, spec = prepared(tmp_path, HALF + "model.box.scale = 3.0")
    told = pytest.raises(TrialFailed, match="computes something else")
    with MeasuringProcess(config) as measurer, told:
        execute(SweepContext(config), spec, nothing, False, measurer)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("jobs", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_killed_run_leaves_no_measuring_process(tmp_path: Path, jobs: str) -> None:
    command = [sys.executable, "-P", "-m", "bench", "run", "--methods", "magnitude", "--seeds", "0-9",
               "--set", "recipe.epochs=3", "--out", str(tmp_path / "r"), "--jobs", jobs,
               "--json"]  # fmt: skip
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_for_event(process, "finished")
        assert len(members(process.pid)) > 1
        process.kill()  # the run alone
        process.wait()
        end = time.monotonic() + 30
        while members(process.pid) and time.monotonic() < end:
            time.sleep(0.1)
        assert not members(process.pid)
    finally:
        for left in members(process.pid):
            os.kill(left, signal.SIGKILL)
        process.communicate()
