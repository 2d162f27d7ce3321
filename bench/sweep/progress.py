"""Progress of a running sweep: a live display on a terminal, one line per event elsewhere."""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bench.data.tasks import TASKS, TaskMetric
from bench.store.json_values import JsonObject


@dataclass(frozen=True)
class Started:
    """A trial was begun."""

    kind = "started"


@dataclass(frozen=True)
class Epoch:
    """An epoch of a trial's training is over."""

    done: int
    of: int
    kind = "epoch"


@dataclass(frozen=True)
class Finished:
    """A trial came to its end.

    Attributes:
        quality: the headline of its task.
        pruning_rate: share of all parameters removed, 0-1.
    """

    quality: float
    pruning_rate: float
    epochs_total: int
    task: str
    seconds: float
    kind = "finished"

    @property
    def headline(self) -> TaskMetric:
        return TASKS[self.task].headline


@dataclass(frozen=True)
class Failed:
    """A trial was stopped by an error."""

    error: str
    seconds: float
    kind = "failed"


@dataclass(frozen=True)
class Note:
    """Something that a user should know of a trial that goes on."""

    sentence: str
    kind = "note"


Detail = Started | Epoch | Finished | Failed | Note


@dataclass(frozen=True)
class Event:
    """Something that happened to a trial.

    Attributes:
        worker: number of the process it happened in, from 1.
    """

    trial: str
    label: str
    worker: int
    detail: Detail

    @property
    def kind(self) -> str:
        """`started`, `epoch`, `finished`, `failed` or `note`."""
        return self.detail.kind

    def as_json(self) -> JsonObject:
        """Return the event as an object for programs; a quality has its column's name."""
        values: JsonObject = asdict(self.detail)
        if isinstance(self.detail, Finished):
            values = {self.detail.headline.column: values.pop("quality"), **values}
        return {"event": self.kind, "trial": self.trial, "label": self.label, **values}


class Reporter(Protocol):
    """Receives what happens, in order."""

    def begin(self, to_do: int, finished: int, failed: int) -> None: ...
    def event(self, event: Event) -> None: ...
    def end(self) -> None: ...


def reporter(style: str, json_lines: bool) -> Reporter:
    """Choose a reporter: `auto` is live on a terminal and plain lines elsewhere."""
    if json_lines:
        return JsonLines(sys.stdout)
    if style == "off":
        return Silent()
    console = Console(stderr=True)
    live = style == "live" or (style == "auto" and console.is_terminal and not console.no_color)
    return LiveDisplay(console) if live else Plain(sys.stderr)


class Silent:
    """Says nothing but what failed or was damaged."""

    def begin(self, to_do: int, finished: int, failed: int) -> None: ...

    def event(self, event: Event) -> None:
        if isinstance(event.detail, Failed):
            print(f"failed: {event.label}: {event.detail.error}", file=sys.stderr)
        elif isinstance(event.detail, Note):
            print(f"Note: {event.detail.sentence}", file=sys.stderr)

    def end(self) -> None: ...


class JsonLines:
    """One JSON object per event on stdout, for programs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def begin(self, to_do: int, finished: int, failed: int) -> None:
        self._line({"event": "begin", "to_do": to_do, "finished": finished, "failed": failed})

    def event(self, event: Event) -> None:
        self._line(event.as_json())

    def end(self) -> None:
        self._line({"event": "end"})

    def _line(self, values: JsonObject) -> None:
        say(json.dumps(values), self.stream)


class Plain:
    """One line per finished or failed trial, with the time that is left."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.started = time.monotonic()
        self.to_do = self.done = 0

    def begin(self, to_do: int, finished: int, failed: int) -> None:
        self.to_do, self.started = to_do, time.monotonic()
        say(opening(to_do, finished, failed), self.stream)

    def event(self, event: Event) -> None:
        if isinstance(event.detail, Note):
            say(f"Note: {event.detail.sentence}", self.stream)
        if not isinstance(event.detail, Finished | Failed):
            return
        self.done += 1
        per_trial = (time.monotonic() - self.started) / self.done
        left = per_trial * (self.to_do - self.done)
        counter = f"[{self.done:>{len(str(self.to_do))}}/{self.to_do}]"
        line = f"{counter} {event.label}: {outcome(event)}; about {_clock(left)} left"
        say(line, self.stream)

    def end(self) -> None: ...


class LiveDisplay:
    """A bar for the sweep and a line for what each worker is doing."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self.workers: dict[int, TaskID] = {}
        self.sweep: TaskID | None = None

    def begin(self, to_do: int, finished: int, failed: int) -> None:
        self.console.print(opening(to_do, finished, failed))
        self.sweep = self.progress.add_task("trials", total=to_do)
        self.progress.start()

    def event(self, event: Event) -> None:
        task = self.workers.get(event.worker)
        if task is None:
            task = self.workers[event.worker] = self.progress.add_task("", total=None)
        if isinstance(event.detail, Started):
            self.progress.reset(task, description=event.label, total=None)
        elif isinstance(event.detail, Epoch):
            if event.detail.of:
                self.progress.update(task, completed=event.detail.done, total=event.detail.of)
        elif isinstance(event.detail, Note):
            line = f"Note: {event.detail.sentence}"
            self.progress.console.print(line, markup=False, highlight=False)
        else:
            assert self.sweep is not None
            self.progress.advance(self.sweep)
            style = "red" if isinstance(event.detail, Failed) else "none"
            self.progress.console.print(
                f"{event.label}: {outcome(event)}", style=style, markup=False, highlight=False
            )

    def end(self) -> None:
        self.progress.stop()


def say(line: str, stream: TextIO) -> None:
    """Print a line; where it goes nowhere (a closed pipe, a full disk), the trials go on unheard."""
    try:
        print(line, file=stream, flush=True)
    except OSError:
        # Python would trip over the rest of its buffer when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def opening(to_do: int, finished: int, failed: int) -> str:
    """Say what there is to do."""
    parts = [f"{to_do} trial{'s' * (to_do != 1)} to run"]
    if finished:
        parts.append(f"{finished} finished before")
    if failed:
        parts.append(f"{failed} failed before (--retry-failed runs them again)")
    return ", ".join(parts)


def outcome(event: Event) -> str:
    """Say how a trial ended, in one phrase."""
    match event.detail:
        case Failed(error=error):
            return f"FAILED: {error}"
        case Finished() as end:
            rate = f"{100 * end.pruning_rate:.1f} % pruned"
            quality = end.headline.in_words(end.quality)
            return f"{quality}, {rate}, {end.epochs_total} epochs, {end.seconds:.1f} s"
    return event.kind


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
