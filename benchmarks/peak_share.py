"""Measure the share of the machine's peak that one ResNet-18 training step reaches.

    python benchmarks/peak_share.py
    python benchmarks/peak_share.py --device cuda

Peak: the best of several 3x3 convolutions in channels_last, forward (on a GPU also of square
matrix products). The step: batch 128, bf16 autocast, channels_last, fused SGD; its operations are
counted by torch's FlopCounterMode, forward and backward.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import Rounds, Spread, Variant, calls_for
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from bench.models.resnet import resnet_18

GIGA = 1e9
CONVOLUTIONS = ((64, 32), (128, 16), (256, 8), (512, 4))  # channels, height and width
MATRIX_SIZES = (4096, 8192)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
SHARE_AT_LEAST = 0.6  # on a CPU; what a GPU should reach is not known yet
STEP = "ResNet-18 step"


@dataclass(frozen=True)
class Work:
    """Something to be repeated, and its operations."""

    name: str
    once: Callable[[], object]
    gflop: float


def convolution(channels: int, side: int, batch: int, precision: str, device: torch.device) -> Work:
    """Return the forward pass of a 3x3 convolution that keeps its shape."""
    dtype = PRECISIONS[precision]
    x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    x, weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))

    def once() -> Tensor:
        with torch.no_grad():
            return conv2d(x, weight, padding=1)

    gflop = 2 * batch * channels * channels * 9 * side * side / GIGA
    return Work(f"conv {precision} {channels}ch {side}x{side}", once, gflop)


def matrix_product(n: int, precision: str, device: torch.device) -> Work:
    first, second = (
        torch.randn(n, n, device=device, dtype=PRECISIONS[precision]) for _ in range(2)
    )
    return Work(f"matmul {precision} {n}", lambda: first @ second, 2 * n**3 / GIGA)


def training_step(batch: int, device: torch.device) -> Work:
    """Return one step of training ResNet-18 on a resident batch."""
    torch.manual_seed(0)
    model = resnet_18(10, (3, 32, 32)).to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, 0.9, weight_decay=5e-4, nesterov=True, fused=True
    )
    x = torch.randn(batch, 3, 32, 32, device=device).to(memory_format=torch.channels_last)
    y = torch.randint(10, (batch,), device=device)

    def once() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16):
            logits = model(x)
        cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    with FlopCounterMode(display=False) as counter:
        once()
    return Work(STEP, once, counter.get_total_flops() / GIGA)


def timed(work: Work, threads: int, device: torch.device) -> Variant:
    """Repeat work until a lap is long enough; a GPU is waited for before and after it."""
    is_gpu = device.type == "cuda"

    def wait() -> None:
        if is_gpu:
            torch.cuda.synchronize(device)

    def prepare() -> None:
        torch.set_num_threads(threads)
        wait()

    def once_and_wait() -> None:
        work.once()
        wait()

    prepare()
    calls = calls_for(once_and_wait)

    def run() -> None:
        for _ in range(calls):
            work.once()
        wait()

    return Variant(work.name, run, work.gflop * calls, prepare)


def everything(given: argparse.Namespace, device: torch.device) -> list[Work]:
    """Return every shape in every precision, and the step last."""
    found = []
    for precision in PRECISIONS:
        for channels, side in CONVOLUTIONS:
            found.append(convolution(channels, side, given.batch, precision, device))
        if device.type == "cuda":
            found += [matrix_product(n, precision, device) for n in MATRIX_SIZES]
    return [*found, training_step(given.batch, device)]


def best(rounds: Rounds, kind: str) -> str:
    """Return the variant of a kind with the lowest median cost per GFLOP."""
    names = [name for name in rounds.units if name.startswith(kind)]
    return min(names, key=lambda name: Spread.of(rounds.costs(name)).median)


def compare(threads: int, given: argparse.Namespace, report: Report) -> None:
    device = torch.device(given.device)
    works = everything(given, device)
    variants = [timed(work, threads, device) for work in works]
    rounds = measured(variants, given)
    where = f"{threads} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    report.speeds(f"{where}, batch {given.batch}", rounds, "GFLOP")
    seconds = Spread.of(rounds.costs(STEP)).median * works[-1].gflop
    report.note(
        f"  {STEP}: {works[-1].gflop:.1f} GFLOP in {1000 * seconds:.4g} ms, "
        f"{given.batch / seconds:,.0f} images/s"
    )
    for kind in ("conv", "matmul") if device.type == "cuda" else ("conv",):
        report.note(
            f"  best {kind}: {best(rounds, kind + ' fp32')}; {best(rounds, kind + ' bf16')}"
        )
        bound = Bound(">=", SHARE_AT_LEAST) if (kind, device.type) == ("conv", "cpu") else None
        name = f"{where}: {STEP}, share of the peak of {kind} bf16"
        report.ratio(name, rounds, best(rounds, f"{kind} bf16"), STEP, bound)


def main() -> int:
    parser = options(__doc__, rounds=7)
    numbers: Any = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:1")
    parser.add_argument("--threads", type=numbers, default=[2, 1], help="[default: 2,1]")
    parser.add_argument("--batch", type=int, default=128, help="[default: %(default)s]")
    given = parser.parse_args()
    report = Report("peak_share", settings_of(given))
    on_cpu = torch.device(given.device).type == "cpu"
    for threads in given.threads if on_cpu else given.threads[:1]:
        compare(threads, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
