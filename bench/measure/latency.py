"""Latency of a forward pass, dense and compact, turn by turn."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.data.images import Shape
from bench.graph.eval_mode import evaluating
from bench.store.records import latency_column

BATCH_SIZES = (1, 32)
REPEATS = 30
FEWEST = 3  # of a network so slow that the time is up before


@dataclass(frozen=True)
class Span:
    """The time that one network is measured for: until both `REPEATS` and `least` are reached.

    Attributes:
        least, most: seconds; after `most` it ends with fewer repeats.
    """

    least: float
    most: float


SPANS = {"quick": Span(0.1, 3.0), "full": Span(3.0, 10.0)}


@dataclass(frozen=True)
class Latency:
    """Times of one network beside the dense one.

    Attributes:
        p50, p90: milliseconds a forward pass of one batch, of the compact network.
        dense_p50: of the dense one, in the same rounds.
        speedup: median over rounds of dense / compact; `low` and `high` are its quartiles.
    """

    batch_size: int
    p50: float
    p90: float
    dense_p50: float
    speedup: float
    low: float
    high: float
    rounds: int


def measure(
    dense: nn.Module, compact: nn.Module, shape: Shape, device: torch.device, span: Span
) -> list[Latency]:
    """Time both networks for every batch size, interleaved, after a warm-up.

    Args:
        shape: channels, height and width of the images.
    """
    found = []
    in_channels_last = any(
        p.dim() == 4 and p.is_contiguous(memory_format=torch.channels_last)
        for p in dense.parameters()
    )
    for batch_size in BATCH_SIZES:
        x = torch.randn(batch_size, *shape).to(device)
        if in_channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), evaluating(dense), evaluating(compact):
            pairs = _rounds(lambda x=x: dense(x), lambda x=x: compact(x), device, span)  # type: ignore[misc]
        found.append(_summary(batch_size, pairs))
    return found


def _rounds(
    first: Callable[[], Tensor], second: Callable[[], Tensor], device: torch.device, span: Span
) -> list[tuple[float, float]]:
    """Return the milliseconds of both in turn, round by round."""
    for _ in range(2):  # warm-up
        first()
        second()
    pairs: list[tuple[float, float]] = []
    started = time.perf_counter()
    while True:
        # Who comes second finds warm caches: they take turns.
        calls = (second, first) if len(pairs) % 2 else (first, second)
        times = {call: _timed(call, device) for call in calls}
        pairs.append((times[first], times[second]))
        passed = time.perf_counter() - started
        enough = len(pairs) >= REPEATS and passed >= span.least
        if enough or (len(pairs) >= FEWEST and passed >= span.most):
            return pairs


def _timed(call: Callable[[], Tensor], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - started)


def _summary(batch_size: int, pairs: list[tuple[float, float]]) -> Latency:
    dense, compact = (sorted(times) for times in zip(*pairs, strict=True))
    ratios = [a / b for a, b in pairs]
    low, middle, high = statistics.quantiles(ratios, n=4)
    p90 = compact[min(len(compact) - 1, round(0.9 * (len(compact) - 1)))]
    return Latency(batch_size, statistics.median(compact), p90, statistics.median(dense), middle,
                   low, high, len(pairs))  # fmt: skip


def columns(times: list[Latency]) -> dict[str, float]:
    """Return the columns of a record."""
    found: dict[str, float] = {}
    for t in times:
        named = {
            "latency_ms_p50": t.p50, "latency_ms_p90": t.p90, "latency_dense_ms_p50": t.dense_p50,
        }  # fmt: skip
        found |= {latency_column(name, t.batch_size): value for name, value in named.items()}
        found |= _speedups(t, sparse=False)
    return found


def sparse_columns(times: list[Latency]) -> dict[str, float]:
    """Return the columns of a record for linear layers on sparse kernels: their speed-ups."""
    return {name: value for t in times for name, value in _speedups(t, sparse=True).items()}


def _speedups(t: Latency, sparse: bool) -> dict[str, float]:
    named = {
        "speedup_measured": t.speedup,
        "speedup_measured_low": t.low,
        "speedup_measured_high": t.high,
    }
    return {latency_column(name, t.batch_size, sparse): value for name, value in named.items()}
