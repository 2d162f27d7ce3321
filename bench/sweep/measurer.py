"""Measure what a trial stored: from the registry and the trial's files, in a process that runs no method.

One such process stands beside each worker for the whole sweep, or one beside all workers of a GPU. The
worker waits while it measures.
"""

import json
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.data.processes import end_with_parent
from bench.errors import BenchError, ErrorElsewhere, MachineFailed, TrialFailed, in_words
from bench.measure.record import FreshNetwork, record_of
from bench.plan.build_network import build, input_shape
from bench.store.records import ResultRecord, seal
from bench.store.trial_identity import TrialSpec
from bench.sweep.config import RunConfig
from bench.sweep.context import SweepContext
from bench.system_errors import cannot_write

_SAFE_PATH = "PYTHONSAFEPATH"
_TRIES = 2  # a process that ends while it measures is started once more
_ENDED_TWICE = (
    "the process that measures networks was ended from outside, twice, at trial {trial} (out of memory, "
    "perhaps: fewer --jobs need less); run the same command again to measure it"
)
_SHARED_ENDED = "the process that measures networks is gone; run the same command again to go on"


class Measurer(Protocol):
    """Whoever measures finished trials."""

    def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
        """Return the record of a trial whose files lie in its folder."""
        ...


def measure(context: SweepContext, spec: TrialSpec, folder: Path) -> ResultRecord:
    """Return the record of a trial, computed from its specification and files alone.

    Raises:
        TrialFailed: the files do not hold what the method left, or its outputs are not finite.
    """
    context.use_code_of(spec)
    parts = context.measuring_parts(spec)
    registry = context.registry
    network, layout = build(registry, spec.model, parts.dataset, spec.seed, spec.coupling)
    fresh = FreshNetwork(
        network.to(context.machine.device),
        layout,
        input_shape(registry, spec.model, parts.dataset),
        context.code_of(spec),
    )
    return seal(record_of(folder, spec, fresh, parts))


class InThisProcess:
    """A measurer without a process of its own: quick, but test images are then where methods run."""

    def __init__(self, context: SweepContext) -> None:
        self.context = context

    def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
        """Return the record of a trial whose files lie in its folder."""
        return measure(self.context, spec, folder)


class MeasuringProcess:
    """A measurer in a process of its own, which is started at once and ends with this one.

    Use as a context.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._one_at_a_time = threading.Lock()
        self._start()

    def __enter__(self) -> "MeasuringProcess":
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
        """Return the record of a trial whose files lie in its folder.

        Raises:
            TrialFailed: in the words of what stopped the measuring.
            MachineFailed: its process was ended, twice; or the disk is full.
            ErrorElsewhere: a fault of bench or of a plug-in.
        """
        return _record_in(self.answer(spec, folder))

    def answer(self, spec: TrialSpec, folder: Path) -> "_Answer":
        """Return the record of a trial, or what stopped the measuring, as it can be sent on."""
        with self._one_at_a_time:
            for _ in range(_TRIES):
                answer = self._answer_to(spec, folder)
                if answer is not None:
                    return answer
                self.stop()
                self._start()
        return _Answer(error=_ENDED_TWICE.format(trial=spec.id), fault_of="machine")

    def stop(self) -> None:
        """End the process; what it was writing is made again by the next run."""
        self._starting.join()
        self._end()

    def _start(self) -> None:
        processes = _processes()
        self._connection, theirs = processes.Pipe()
        self._process: BaseProcess = processes.Process(
            target=_serve, args=(self._config, theirs), name="measurer"
        )
        # Not a daemon, for it may have processes of its own that decode images: so it is ended here,
        # before Python waits for it at its exit.
        self._end = Finalize(self, _end, args=(self._process, self._connection), exitpriority=10)
        # A thread: the server that it is forked from needs seconds for its imports.
        self._starting = threading.Thread(
            target=_start_process, args=(self._process, theirs), daemon=True
        )
        self._starting.start()

    def _answer_to(self, spec: TrialSpec, folder: Path) -> "_Answer | None":
        """Return what the process answers; None where it ended instead."""
        self._starting.join()
        try:
            self._connection.send((spec, folder))
            answer: _Answer = self._connection.recv()
        except (EOFError, OSError):
            return None
        return answer


# -- one for several workers -----------------------------------------------------------------------


@contextmanager
def shared(measurer: MeasuringProcess) -> Iterator[str]:
    """Let other processes of this run measure here, one trial at a time.

    Yields:
        The address that they give to `SharedMeasurer`.
    """
    with Listener(authkey=multiprocessing.current_process().authkey) as listener:
        threading.Thread(target=_listen, args=(listener, measurer), daemon=True).start()
        yield str(listener.address)


def _listen(listener: Listener, measurer: MeasuringProcess) -> None:
    """Serve each worker in a thread of its own."""
    while True:
        try:
            connection = listener.accept()
        except (AuthenticationError, EOFError):  # a stranger, or a worker that has just ended
            continue
        except OSError:  # the listener is closed
            return
        threading.Thread(target=_pass_on, args=(connection, measurer), daemon=True).start()


def _pass_on(connection: Connection, measurer: MeasuringProcess) -> None:
    with suppress(EOFError, OSError), connection:  # the worker has ended
        while True:
            connection.send(measurer.answer(*connection.recv()))


class SharedMeasurer:
    """A measurer that stands beside several workers, for there is one GPU."""

    def __init__(self, address: str) -> None:
        self._connection = Client(address, authkey=multiprocessing.current_process().authkey)

    def measure(self, spec: TrialSpec, folder: Path) -> ResultRecord:
        """Return the record of a trial whose files lie in its folder.

        Raises:
            TrialFailed, MachineFailed, ErrorElsewhere: as `MeasuringProcess.measure` does.
        """
        try:
            self._connection.send((spec, folder))
            answer: _Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise MachineFailed(_SHARED_ENDED) from error
        return _record_in(answer)


# -- on this side --------------------------------------------------------------------------------


def _processes() -> Any:
    """Return a context whose processes come from a fresh server, which has the slow imports done."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    # Not bench itself: the server does not know where this process has it from.
    context.set_forkserver_preload(["torch", "torch.utils.flop_counter", "safetensors.torch"])
    _start_server()
    return context


def _start_server() -> None:
    """Start the server, unless it runs, such that Ctrl-C reaches neither it nor its processes."""
    from multiprocessing import forkserver  # Windows has none

    safe = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"  # a file random.py in the user's folder is not Python's own
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # is inherited
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if safe is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = safe


def _start_process(process: BaseProcess, theirs: Connection) -> None:
    try:
        process.start()
    except (
        EOFError,
        OSError,
    ):  # the server was ended: whoever asks will see nobody at the other end
        return
    finally:
        theirs.close()  # so that its end is seen by the end of the pipe


def _end(process: BaseProcess, connection: Connection) -> None:
    connection.close()
    if process.pid is not None:
        process.kill()
        process.join()


def _record_in(answer: "_Answer") -> ResultRecord:
    if answer.record:
        return ResultRecord.model_validate(json.loads(answer.record))
    raise _KINDS[answer.fault_of](answer.error) from ErrorElsewhere(answer.traceback)


# -- on the other side ---------------------------------------------------------------------------


_FaultOf = Literal["trial", "machine", "code"]
_KINDS: dict[_FaultOf, type[Exception]] = {
    "trial": TrialFailed, "machine": MachineFailed, "code": ErrorElsewhere,
}  # fmt: skip


@dataclass(frozen=True)
class _Answer:
    """A record as JSON, or what stopped the measuring."""

    record: str = ""
    error: str = ""
    traceback: str = ""
    fault_of: _FaultOf = "trial"


def _serve(config: RunConfig, connection: Connection) -> None:
    """Measure trial after trial, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    context = SweepContext(config)
    context.prepare()  # now: a file that is edited during the run is another one
    while True:
        try:
            spec, folder = connection.recv()
        except EOFError:
            return
        try:
            record = measure(context, spec, folder)
            answer = _Answer(json.dumps(record.as_json()))
        except Exception as error:
            answer = _answer_of(error, config.out)
        connection.send(answer)


def _answer_of(error: Exception, results: Path) -> _Answer:
    of_disk = cannot_write(error, results)
    if of_disk is not None or isinstance(error, MachineFailed):
        return _Answer("", in_words(of_disk or error), traceback.format_exc(), "machine")
    is_for_the_user = isinstance(error, BenchError)
    fault_of: _FaultOf = "trial" if is_for_the_user else "code"
    return _Answer("", in_words(error), traceback.format_exc(), fault_of)
