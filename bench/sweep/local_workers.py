"""Run a plan: skip what is finished, share chains out to workers, keep going when a trial fails."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.data.processes import available_cores, end_with_parent
from bench.data.tasks import TASKS
from bench.data.tasks.classification import OLDEST_TASK
from bench.errors import BenchError, TrialFailed, UsageError
from bench.plan.expand import Chain, Plan
from bench.plan.registry import Registry
from bench.store import source_hash
from bench.store.results import Results
from bench.store.trial_identity import TrialSpec
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.machine import Machine, device_named
from bench.sweep.pending import Pending
from bench.sweep.progress import Event, Reporter

Send = Callable[[Event], None]
Assignment = tuple[TrialSpec, bool]  # and whether its finished record is to be replaced


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration of a worker process: plain values that can be sent to it."""

    out: Path
    data_root: Path
    device: str = "auto"
    threads: int = 1
    plugins: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    checkpoint_seconds: float = 30.0
    resident_gb: float = 4.0
    weights_file: Path | None = None

    def context(self) -> SweepContext:
        machine = Machine(device_named(self.device), self.threads)
        machine.prepare()
        source_hash.of_core()  # now: a file edited during the run must not count as what runs
        return SweepContext(
            Results(self.out), Registry(self.plugins), machine, self.data_root,
            list(self.flags), self.checkpoint_seconds, round(self.resident_gb * 2**30),
            self.weights_file,
        )  # fmt: skip


@dataclass
class SweepOutcome:
    """The outcome of a sweep: the ids of finished and of failed trials."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def sweep(
    plan: Plan, pending: Pending, config: WorkerConfig, jobs: int, reporter: Reporter
) -> SweepOutcome:
    """Run what is left.

    Args:
        plan: all trials by id.
        pending: the chains to run; `after` refers to their places in its list.
        config: for each worker.
        jobs: number of worker processes; 1 runs in this process.
        reporter: is told of every event.
    """
    outcome = SweepOutcome(finished=list(pending.finished), failed=list(pending.failed))

    def hear(event: Event) -> None:
        if event.kind in ("finished", "failed"):
            getattr(outcome, event.kind).append(event.trial)
        reporter.event(event)

    reporter.begin(pending.trials, len(pending.finished), len(pending.failed))
    try:
        if jobs == 1:
            _run_here(plan, pending, config, hear)
        else:
            _run_in_workers(plan, pending, config, jobs, hear)
    finally:
        reporter.end()
    return outcome


def _run_here(plan: Plan, pending: Pending, config: WorkerConfig, hear: Send) -> None:
    context = config.context()
    for chain in pending.chains:
        _run_chain(context, _assignments(plan, pending, chain), 1, hear)


def _assignments(plan: Plan, pending: Pending, chain: Chain) -> list[Assignment]:
    """Return a chain's trials, each with whether a finished record of it is to be replaced."""
    return [(plan.trials[i], i in pending.stale) for i in chain.trials]


@dataclass(frozen=True)
class _EventSender:
    """Sends a trial's events."""

    spec: TrialSpec
    worker: int
    send: Send

    def __call__(self, kind: str, **detail: Any) -> None:
        self.send(Event(kind, self.spec.id, self.spec.label, self.worker, detail))

    def epoch(self, done: int, of: int) -> None:
        self("epoch", done=done, of=of)


def _run_chain(context: SweepContext, chain: list[Assignment], worker: int, send: Send) -> None:
    """Run trials in turn; one that fails is recorded and the next one goes on."""
    for spec, replace in chain:
        started = time.perf_counter()
        send_event = _EventSender(spec, worker, send)
        send_event("started")
        try:
            record = execute(context, spec, send_event.epoch, replace)
        except Exception as error:
            shown = str(error) if isinstance(error, BenchError) else repr(error)
            send_event("failed", error=shown, seconds=time.perf_counter() - started)
        else:
            task = record.get("task", OLDEST_TASK)
            headline = TASKS[task].headline.column
            shown_metrics = (headline, "pruning_rate", "epochs_total")
            metrics = {k: record["metrics"][k] for k in shown_metrics} | {"task": task}
            send_event("finished", **metrics, seconds=time.perf_counter() - started)


# -- worker processes ----------------------------------------------------------------------------


def _run_in_workers(
    plan: Plan, pending: Pending, config: WorkerConfig, jobs: int, hear: Send
) -> None:
    processes = multiprocessing.get_context("spawn")
    events = processes.Queue()
    numbers = processes.Queue()
    for number in range(1, jobs + 1):
        numbers.put(number)
    listener = threading.Thread(target=_listen, args=(events, hear), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        jobs, mp_context=processes, initializer=_set_up, initargs=(config, events, numbers)
    )
    try:
        _feed(pool, plan, pending)
        pool.shutdown()
        events.put(None)
        listener.join(timeout=10)
    except BaseException as error:
        for process in multiprocessing.active_children():
            process.kill()
        pool.shutdown(wait=False, cancel_futures=True)
        events.cancel_join_thread()  # a killed worker may hold the queue's lock
        if isinstance(error, BrokenProcessPool):
            raise TrialFailed(
                "A worker process was killed from outside (out of memory, perhaps: --jobs 1 needs "
                "less); run the same command again to go on from where it was"
            ) from None
        raise


def _feed(pool: ProcessPoolExecutor, plan: Plan, pending: Pending) -> None:
    """Hand out chains in order, each as soon as the chains it follows are done."""
    waiting = list(range(len(pending.chains)))
    running: dict[Future[None], int] = {}
    done: set[int] = set()
    while waiting or running:
        for index in _ready(pending, waiting, done):
            waiting.remove(index)
            chain = _assignments(plan, pending, pending.chains[index])
            if chain:
                running[pool.submit(_work, chain)] = index
            else:
                done.add(index)
        if running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
                done.add(running.pop(future))


def _ready(pending: Pending, waiting: list[int], done: set[int]) -> Iterator[int]:
    return (i for i in list(waiting) if done.issuperset(pending.chains[i].after))


def _listen(events: Any, hear: Send) -> None:
    while (event := events.get()) is not None:
        hear(event)


@dataclass
class _Worker:
    context: SweepContext
    number: int
    events: Any


_worker: _Worker | None = None


def _set_up(config: WorkerConfig, events: Any, numbers: Any) -> None:
    """Make this process a worker: it ignores Ctrl-C and dies with the process that started it."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    _worker = _Worker(config.context(), numbers.get(), events)


def _work(chain: list[Assignment]) -> None:
    assert _worker is not None
    _run_chain(_worker.context, chain, _worker.number, _worker.events.put)


def jobs_of(given: str, chains: int, threads: int, device: str) -> int:
    """Return how many workers to start for `auto` or a number.

    Raises:
        UsageError: not a number above 0.
    """
    if given == "auto":
        wanted = 1 if device_named(device).type == "cuda" else max(1, available_cores() // threads)
    elif given.isdecimal() and int(given) > 0:
        wanted = int(given)
    else:
        raise UsageError(f"--jobs {given!r} is neither auto nor a number from 1 up")
    return max(1, min(wanted, chains))
