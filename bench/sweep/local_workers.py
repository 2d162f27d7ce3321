"""Run a plan: skip what is finished, share chains out to workers, keep going when a trial fails."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from typing import Any

from bench.data.processes import end_with_parent
from bench.data.tasks import TASKS
from bench.errors import MachineFailed, in_words
from bench.plan.expand import Chain, Plan
from bench.store.locks import LockRefused
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.sweep.execute import execute
from bench.sweep.measurer import Measurer, MeasuringProcess, SharedMeasurer, shared
from bench.sweep.pending import Pending
from bench.sweep.progress import Detail, Epoch, Event, Failed, Finished, Note, Reporter, Started
from bench.system_errors import CannotWrite

Send = Callable[[Event], None]
Assignment = tuple[TrialSpec, bool]  # and whether its finished record is to be replaced


@dataclass
class SweepOutcome:
    """The outcome of a sweep: the ids of finished and of failed trials."""

    finished: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def sweep(plan: Plan, pending: Pending, config: RunConfig, reporter: Reporter) -> SweepOutcome:
    """Run what is left; with one worker, in this process.

    Args:
        plan: all trials by id.
        pending: the chains to run; `after` refers to their places in its list.
        reporter: is told of every event.
    """
    outcome = SweepOutcome(finished=list(pending.finished), failed=list(pending.failed))

    def hear(event: Event) -> None:
        if event.kind in ("finished", "failed"):
            getattr(outcome, event.kind).append(event.trial)
        reporter.event(event)

    reporter.begin(pending.trials, len(pending.finished), len(pending.failed))
    try:
        workers = config.workers(len(plan.chains))
        if workers == 1:
            _run_here(plan, pending, config, hear)
        else:
            with _measurer_of_all(config) as measurer:
                _run_in_workers(plan, pending, config, workers, hear, measurer)
    finally:
        reporter.end()
    return outcome


def _run_here(plan: Plan, pending: Pending, config: RunConfig, hear: Send) -> None:
    with MeasuringProcess(config) as measurer:
        context = SweepContext(config)
        context.prepare()
        slot = _Slot(context, measurer, 1)
        for chain in pending.chains:
            _run_chain(slot, _assignments(plan, pending, chain), hear)


def _assignments(plan: Plan, pending: Pending, chain: Chain) -> list[Assignment]:
    """Return a chain's trials, each with whether a finished record of it is to be replaced."""
    return [(plan.trials[i], i in pending.stale) for i in chain.trials]


@dataclass(frozen=True)
class _EventSender:
    """Sends a trial's events."""

    spec: TrialSpec
    worker: int
    send: Send

    def __call__(self, detail: Detail) -> None:
        self.send(Event(self.spec.id, self.spec.label, self.worker, detail))

    def epoch(self, done: int, of: int) -> None:
        self(Epoch(done, of))

    def note(self, sentence: str) -> None:
        self(Note(sentence))


@dataclass(frozen=True)
class _Slot:
    """A process that runs trials, and the one beside it that measures them."""

    context: SweepContext
    measurer: Measurer
    number: int


def _run_chain(slot: _Slot, chain: list[Assignment], send: Send) -> None:
    """Run trials in turn; one that fails is recorded and the next one goes on.

    Raises:
        MachineFailed: no trial is to blame, and the next one would fare no better.
    """
    for spec, replace in chain:
        started = time.perf_counter()
        send_event = _EventSender(spec, slot.number, send)
        send_event(Started())
        slot.context.tell = send_event.note
        try:
            record = execute(slot.context, spec, send_event.epoch, replace, slot.measurer)
        except CannotWrite as error:
            if not error.is_of_this_place_alone:
                raise
            send_event(Failed(str(error), time.perf_counter() - started))
        except (MachineFailed, LockRefused):  # nor would the next trial get its disk, or its locks
            raise
        except Exception as error:
            send_event(Failed(in_words(error), time.perf_counter() - started))
        else:
            metrics, task = record.metrics, record.task_name
            quality = metrics.number(TASKS[task].headline.column)
            seconds = time.perf_counter() - started
            send_event(Finished(quality, metrics.pruning_rate, metrics.epochs_total, task, seconds))


# -- worker processes ----------------------------------------------------------------------------


@contextmanager
def _measurer_of_all(config: RunConfig) -> Iterator[str | None]:
    """Start one measurer for all workers of a GPU; None on a CPU, where each has its own."""
    if config.torch_device.type == "cpu":
        yield None
        return
    with MeasuringProcess(config) as measurer, shared(measurer) as address:
        yield address


def _run_in_workers(
    plan: Plan,
    pending: Pending,
    config: RunConfig,
    workers: int,
    hear: Send,
    measurer: str | None,
) -> None:
    processes = multiprocessing.get_context("spawn")
    events = processes.Queue()
    numbers = processes.Queue()
    for number in range(1, workers + 1):
        numbers.put(number)
    listener = threading.Thread(target=_listen, args=(events, hear), daemon=True)
    listener.start()
    pool = ProcessPoolExecutor(
        workers, mp_context=processes, initializer=_set_up,
        initargs=(config, events, numbers, measurer),
    )  # fmt: skip
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
            raise MachineFailed(
                "A worker process was killed from outside (out of memory, perhaps: --jobs 1 needs "
                "less); run the same command again to go on from where it was"
            ) from None
        raise


def _feed(pool: ProcessPoolExecutor, plan: Plan, pending: Pending) -> None:
    """Hand out chains in order, each as soon as the chains it follows are done."""
    order = TopologicalSorter({i: chain.after for i, chain in enumerate(pending.chains)})
    order.prepare()
    running: dict[Future[None], int] = {}
    while order.is_active():
        ready = sorted(order.get_ready())
        while ready:
            index = heappop(ready)
            chain = _assignments(plan, pending, pending.chains[index])
            if chain:
                running[pool.submit(_work, chain)] = index
            else:  # nothing is left of it: what follows it may go at once
                order.done(index)
                for follower in order.get_ready():
                    heappush(ready, follower)
        finished = wait(running, return_when=FIRST_COMPLETED).done if running else ()
        for future in finished:
            future.result()
            order.done(running.pop(future))


def _listen(events: Any, hear: Send) -> None:
    while (event := events.get()) is not None:
        hear(event)


@dataclass
class _Worker:
    slot: _Slot
    events: Any


_worker: _Worker | None = None


def _set_up(config: RunConfig, events: Any, numbers: Any, of_all: str | None) -> None:
    """Make this process a worker: it ignores Ctrl-C and dies with the process that started it."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    # A process of its own has its imports done while the first trial trains.
    measurer = MeasuringProcess(config) if of_all is None else SharedMeasurer(of_all)
    context = SweepContext(config)
    context.prepare()
    _worker = _Worker(_Slot(context, measurer, numbers.get()), events)


def _work(chain: list[Assignment]) -> None:
    assert _worker is not None
    _run_chain(_worker.slot, chain, _worker.events.put)
