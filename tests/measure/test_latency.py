"""Times are taken in turn, shared by equal architectures, and kept beside the record."""

import json
import time
from pathlib import Path

import pytest
import torch
from small_networks import small_mlp
from torch import Tensor, nn

from bench.measure import latency
from bench.measure.sparse import SparseLinear, with_sparse_linear
from bench.plan.registry import Registry
from bench.store.results import Results
from bench.sweep import latency_pass
from bench.sweep.machine import Machine

CPU = torch.device("cpu")
SHORT = latency.Span(0.0, 0.5)


class Sleeps(nn.Module):
    """Takes a known time."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds, self.calls = seconds, 0
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        time.sleep(self.seconds)
        self.calls += 1
        return x


def test_the_speed_up_is_the_ratio_of_the_times() -> None:
    dense, compact = Sleeps(0.004), Sleeps(0.001)
    one, many = latency.measure(dense, compact, (1, 2, 2), CPU, SHORT)
    assert (one.batch_size, many.batch_size) == latency.BATCH_SIZES
    assert one.rounds >= latency.REPEATS
    assert 2.0 < one.speedup < 4.2
    assert one.low <= one.speedup <= one.high
    assert one.p50 <= one.p90
    assert one.dense_p50 > one.p50
    assert dense.calls == compact.calls


def test_a_slow_network_ends_with_fewer_rounds() -> None:
    slow = Sleeps(0.05)
    one, _ = latency.measure(slow, slow, (1, 2, 2), CPU, latency.Span(0.0, 0.2))
    assert latency.FEWEST <= one.rounds < latency.REPEATS


def test_equal_networks_are_equally_fast() -> None:
    model = small_mlp()
    one, _ = latency.measure(model, model, (1, 8, 8), CPU, latency.Span(0.2, 1.0))
    assert one.low <= 1.1
    assert one.high >= 0.9


def test_training_flags_come_back() -> None:
    model = small_mlp().train()
    latency.measure(model, model, (1, 8, 8), CPU, SHORT)
    assert model.training


def test_a_sparse_linear_layer_computes_what_the_dense_one_does() -> None:
    torch.manual_seed(0)
    model = small_mlp()
    with torch.no_grad():
        model.fc1.weight[torch.rand(16, 64) < 0.8] = 0.0
    sparse = with_sparse_linear(model)
    assert sparse is not None
    assert isinstance(sparse.fc1, SparseLinear)
    assert isinstance(sparse.fc2, nn.Linear)
    x = torch.randn(5, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(sparse(x), model(x), atol=1e-6)
    assert with_sparse_linear(small_mlp()) is None


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished smoke run of one small network, not yet timed."""
    from bench.plan.expand import make_plan
    from bench.plan.request import requests
    from bench.sweep.config import RunConfig
    from bench.sweep.local_workers import sweep
    from bench.sweep.pending import find_pending
    from bench.sweep.progress import reporter

    out = tmp_path_factory.mktemp("timed") / "results"
    flags = {"methods": ["dense", "magnitude", "l1-filter"], "models": ["fc-20-20"], "budget": "smoke",
             "targets": "4", "seeds": "0-1", "controls": "none"}  # fmt: skip
    plan = make_plan(Registry(), requests(None, flags, []))
    results = Results(out)
    results.create()
    results.add_to_plan(plan.trials)
    todo = find_pending(plan, results, Registry(), False, False)
    sweep(plan, todo, RunConfig(out=out, data_dir=out, jobs=1), reporter("off", False))
    return out


def times_of(out: Path) -> dict[str, dict[str, object]]:
    return {t.id: t.cost()[0].as_json().get("latency", {}) for t in Results(out).trials()}


def test_every_trial_gets_times_once_and_equal_networks_share_them(smoke: Path) -> None:
    notes: list[str] = []
    ids = [t.id for t in Results(smoke).trials()]

    def run() -> int:
        machine = Machine(CPU)
        return latency_pass.measure_all(
            Results(smoke), Registry(), machine, "quick", ids, notes.append
        )

    records = {i: (smoke / "trials" / i / "result.json").read_bytes() for i in ids}
    assert run() == len(ids) == 6
    assert notes == []
    times = times_of(smoke)
    methods = {t.id: t.result().spec for t in Results(smoke).trials()}
    dense = [times[i] for i in ids if methods[i].method == "dense"]
    assert dense[0] == dense[1]
    for i in ids:
        assert float(str(times[i]["latency_ms_p50"])) > 0
        masked = methods[i].method == "magnitude"
        assert ("note" in times[i]) == masked
        assert ("speedup_measured_sparse" in times[i]) == masked
        assert (smoke / "trials" / i / "result.json").read_bytes() == records[i]
    assert run() == 0
    assert times_of(smoke) == times


def test_a_trial_whose_files_changed_is_named_and_left_out(smoke: Path) -> None:
    first = next(Results(smoke).trials())
    weights = first.path / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    cost = json.loads((first.path / "cost.json").read_text())
    cost.pop("latency", None)
    cost.pop("sha256")
    (first.path / "cost.json").write_text(json.dumps(cost))
    notes: list[str] = []
    machine = Machine(CPU)
    found = latency_pass.measure_all(
        Results(smoke), Registry(), machine, "quick", [first.id], notes.append
    )
    weights.write_bytes(kept)
    assert found == 0
    assert first.id in notes[0]
    assert "is not the file" in notes[0]
