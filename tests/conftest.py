"""Small networks and trials that tests share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest
import torch
from child_processes import children_end_with_us
from small_networks import Blobs, MakeTrial, small_mlp
from torch import nn

from bench.data.batches import Part
from bench.graph.trace import layout_of
from bench.store.phase_cache import PhaseStore
from bench.sweep.machine import matmul_precision
from bench.training.contract import Trial
from bench.training.recipe import Recipe
from bench.training.trial import RunningTrial
from bench.training.trial_records import TrialInputs

__all__ = ["children_end_with_us"]  # a fixture of every test


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what runs remember of their user out of the cache of whoever runs the tests."""
    theirs = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in (("MPLCONFIGDIR", "matplotlib"), ("TORCH_HOME", "torch")):
            if name not in os.environ:
                patch.setenv(name, str(theirs / folder))
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision(matmul_precision())


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own cache of digests out of tests, and tests out of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def make_trial(tmp_path: Path) -> MakeTrial:
    """Return a function that makes a trial of a small network on `Blobs`."""

    def make(
        build: Callable[[], nn.Module] = small_mlp,
        target: float | None = None,
        seed: int = 0,
        **recipe: object,
    ) -> Trial:
        torch.manual_seed(seed)
        model = build()
        layout = layout_of(model, torch.zeros(1, 1, 8, 8))
        if layout.has_convolutions:
            model.to(memory_format=torch.channels_last)
        split = Blobs().load(tmp_path)
        cpu = torch.device("cpu")
        fields = {"epochs": 3, "lr": 0.05, "batch_size": 32} | recipe
        inputs = TrialInputs(
            recipe=Recipe(**fields), seed=seed, target=target,
            train=Part.of(split.train, Blobs(), None, cpu),
            validation=Part.of(split.validation, Blobs(), None, cpu),
            store=PhaseStore(tmp_path / "phases"),
            environment={"recipe": fields, "seed": seed}, checkpoint_seconds=0.0,
        )  # fmt: skip
        return RunningTrial(model, layout, inputs)

    return make


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No network for torch's hub; what it wanted to download is in the list."""
    addresses: list[str] = []

    def refuse(url: str, *args: Any, **more: Any) -> None:
        addresses.append(url)
        raise URLError("no network here")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return addresses


@pytest.fixture
def hub(tmp_path: Path, tried: list[str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and no network."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return folder
