"""A trial reads the data that it was planned with, or fails with a sentence that names what changed."""

import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from small_images import write_image

from bench.errors import TrialFailed
from bench.plan.data_identity import DataIdentities, PlannedData
from bench.plan.registry import Registry
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext

DRAWN = '''
"""A draw from a file for each seed, and a set that is never the same."""
import itertools
from pathlib import Path
import numpy as np, torch
from bench.api import Dataset, Images, Split

COUNT = itertools.count()

def split(x):
    images = Images(x, torch.arange(len(x)) % 2)
    return Split(*(images.take(torch.arange(a, a + 10)) for a in (0, 10, 20)))

class Draws(Dataset):
    name = "draws"
    needs_files = True
    shape, classes, mean, std = (1, 4, 4), 2, (0.5,), (0.25,)

    def __init__(self, seed=0):
        self.seed = seed

    def for_seed(self, seed):
        return type(self)(seed)

    def load(self, root):
        x = torch.from_numpy(np.load(root / "numbers.npy"))
        return split(x[30 * self.seed : 30 * self.seed + 30])

class Restless(Dataset):
    name = "restless"
    shape, classes, mean, std = (1, 4, 4), 2, (0.5,), (0.25,)

    def load(self, root):
        return split(torch.full((30, 1, 4, 4), next(COUNT), dtype=torch.uint8))
'''


def found(name: str, root: Path, plugins: tuple[Path, ...] = (), seed: int = 0) -> PlannedData:
    planned = DataIdentities(Registry(plugins), root).of(name, seed)
    assert planned is not None
    return planned


def context(planned: PlannedData, root: Path, plugins: tuple[Path, ...] = ()) -> SweepContext:
    """A process of a run, as a worker has it."""
    config = RunConfig(out=root / "out", data_dir=root, data=(planned,), plugins=plugins)
    return SweepContext(config)


def used(of: SweepContext, planned: PlannedData, seed: int = 0) -> None:
    """Load what a trial trains on, and what it is measured on."""
    spec = TrialSpec("dense", 1, "lenet-300-100", planned.dataset, seed)
    of.training_parts(spec)
    of.measuring_parts(spec)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("ant", "bee"):
        for i in range(12):
            write_image(tmp_path / "photos" / name / f"{i}.png", seed=i)
            os.utime(tmp_path / "photos" / name / f"{i}.png", ns=(10**18, 10**18))
    return tmp_path / "photos"


def test_a_changed_image_is_named_by_processes_old_and_new(photos: Path, tmp_path: Path) -> None:
    planned = found(f"imagefolder:{photos}", tmp_path)
    running = context(planned, tmp_path)
    used(running, planned)
    used(running, planned)
    write_image(photos / "bee" / "3.png", seed=99)
    for process in (running, context(planned, tmp_path)):
        with pytest.raises(TrialFailed, match=r"bee/3\.png changed after the run was planned"):
            used(process, planned)


def test_an_added_image_stops_processes_that_would_see_it(photos: Path, tmp_path: Path) -> None:
    planned = found(f"imagefolder:{photos}", tmp_path)
    shutil.copy2(photos / "ant" / "1.png", photos / "ant" / "99.png")
    with pytest.raises(TrialFailed, match="photos changed after the run was planned"):
        used(context(planned, tmp_path), planned)


def test_the_raw_files_of_a_shipped_set_are_looked_at_before_every_trial(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 100), ("t10k", 20)):
        head = struct.pack(">IIII", 0x803, n, 28, 28)
        pixels = rng.integers(0, 256, 784 * n, dtype=np.uint8).tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(head + pixels)
        labels = (np.arange(n) % 10).astype(np.uint8).tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels)
    planned = found("mnist", tmp_path)
    running = context(planned, tmp_path)
    used(running, planned)
    (raw / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 20) + b"\3" * 20)
    assert found("mnist", tmp_path).digest != planned.digest
    with pytest.raises(TrialFailed, match="t10k-labels-idx1-ubyte changed after"):
        used(running, planned)


def test_every_draw_from_files_has_its_own_digest(tmp_path: Path) -> None:
    (tmp_path / "drawn.py").write_text(DRAWN)
    plugins = (tmp_path / "drawn.py",)
    x = np.random.default_rng(0).integers(0, 256, (60, 1, 4, 4), dtype=np.uint8)
    np.save(tmp_path / "numbers.npy", x)
    before = [found("draws", tmp_path, plugins, seed) for seed in (0, 1)]
    used(context(before[1], tmp_path, plugins), before[1], seed=1)
    x[45] ^= 1
    np.save(tmp_path / "numbers.npy", x)
    after = [found("draws", tmp_path, plugins, seed) for seed in (0, 1)]
    assert before[0].digest == after[0].digest
    assert before[1].digest != after[1].digest
    with pytest.raises(TrialFailed, match="load\\(\\) gave other data"):
        used(context(before[1], tmp_path, plugins), before[1], seed=1)


def test_a_set_that_is_never_the_same_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drawn.py").write_text(DRAWN)
    plugins = (tmp_path / "drawn.py",)
    planned = found("restless", tmp_path, plugins)
    with pytest.raises(TrialFailed, match="must give the same at every call"):
        used(context(planned, tmp_path, plugins), planned)


def test_what_a_run_was_not_planned_with_is_not_run(photos: Path, tmp_path: Path) -> None:
    planned = found(f"imagefolder:{photos}", tmp_path)
    spec = TrialSpec("dense", 1, "tiny", planned.dataset, 0, data="0" * 32)
    with pytest.raises(TrialFailed, match="not what this run was planned with"):
        context(planned, tmp_path).data.of(spec)


@pytest.mark.parametrize(
    "name", ["mnist-5k", "digits", "sparse-regression", "mnist-5k-autoencoder"]
)
def test_what_comes_in_packages_or_is_drawn_has_no_digest(name: str, tmp_path: Path) -> None:
    assert DataIdentities(Registry(), tmp_path).of(name, 0) is None
