"""The base of every task, its metrics, and the tasks that there are, by name.

Reports and completion read names and columns from here and must start fast: a file of a task
imports torch inside its methods.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

from bench.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from bench.data.images import Shape

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"
Targets = Literal["labels", "numbers", "input"]
MAX_STORED_OUTPUTS = 200


@dataclass(frozen=True)
class TaskMetric:
    """A metric of a network's outputs: one column of a record.

    Attributes:
        column: its name in records and tables of numbers.
        title: its name in printed tables and figures.
        is_percent: a share of the test images, 0-100, of which more is better and whose differences are
            points; else an error from 0 on, of which less is better and whose ratios are compared.
        by_median: an error in which seeds fail by orders of magnitude: medians and ranges are shown.
    """

    column: str
    title: str
    is_percent: bool = False
    by_median: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.is_percent

    def in_words(self, value: float) -> str:
        """Return the value as a phrase: top-1 97.53 %, NMSE 3.6e-05."""
        if self.is_percent:
            return f"{self.title.removesuffix(' %')} {value:.2f} %"
        return f"{self.title} {value:.3g}"

    def wrong(self, value: object) -> str:
        """Return the kind of value that this metric must have, where it has another."""
        if _no_number(value):
            return _no_number(value)
        assert isinstance(value, int | float)
        if self.is_percent:
            return "" if 0 <= value <= 100 else "a share from 0 to 100"
        return "an error from 0 on" if value < 0 else ""


@dataclass(frozen=True)
class Evaluation:
    """Results on one part of the data.

    Attributes:
        score: the task's headline with its sign such that higher is better: top-1 in percent, minus
            the NMSE of a regression, minus the pixel MSE of an autoencoder.
        loss: mean of the task's loss: cross-entropy in nats, squared error.
        n: number of images, or samples.
        values: the task's columns.
        collapsed: no better than an output that is the same for every image.
    """

    score: float
    loss: float
    n: int
    values: dict[str, float]
    collapsed: bool

    @property
    def top1(self) -> float:
        """Percent of images whose label has the highest logit; of a classification."""
        return self.values["top1"]

    @property
    def top3(self) -> float:
        """Percent of images whose label is among the three highest logits."""
        return self.values["top3"]

    @property
    def top5(self) -> float:
        """Percent of images whose label is among the five highest logits."""
        return self.values["top5"]


class Task:
    """A kind of question, and all that is particular to it. A subclass with a `name` is a task.

    Outputs are (n, outputs); targets are what `Part` yields beside the images.

    Attributes:
        name: in records and tables.
        targets: `labels`, whole numbers (n,); `numbers`, float32 (n, numbers); or the `input` itself,
            normalised and flattened.
        headline: what tables compare and figures draw.
        others: printed beside it.
        unprinted: columns that records hold beyond those.
        meaning: of the metrics, as it stands below tables; `term`: what is explained there.
        default_model: of data sets with this task; without one, users name their network.
        output_words: what an exported network gives.
        items: what the data is counted in.
        picks_class: outputs are a logit for each class, of which the largest is the answer. A training
            counts hits, and outputs beyond the classes do no harm.
        keeps_examples: some test images and outputs of their shape are stored beside the record.
        place: of its columns among those of other tasks, where a table has several.
    """

    name: ClassVar[str]
    targets: ClassVar[Targets]
    headline: ClassVar[TaskMetric]
    others: ClassVar[tuple[TaskMetric, ...]] = ()
    unprinted: ClassVar[tuple[str, ...]] = ()
    term: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    default_model: ClassVar[str] = ""
    output_words: ClassVar[str] = "outputs (batch, outputs)"
    items: ClassVar[str] = "images"
    picks_class: ClassVar[bool] = False
    keeps_examples: ClassVar[bool] = False
    place: ClassVar[int] = 100

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" in vars(cls):
            TASKS.add(cls)

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        """Return the mean loss of a batch, which training minimises."""
        raise NotImplementedError

    def evaluate(self, outputs: "Tensor", targets: "Tensor") -> Evaluation:
        """Score a network's outputs, as sums over images: batch sizes do not matter."""
        raise NotImplementedError

    def outputs(self, classes: int, shape: "Shape") -> int:
        """Return how many outputs a network for images of this shape must have."""
        return classes

    def stored(self, outputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return the outputs on each part as they are stored beside the record; nothing for many."""
        if any(each.shape[1] > MAX_STORED_OUTPUTS for each in outputs.values()):
            return {}
        return {name: each.float() for name, each in outputs.items()}

    def spans(
        self, outputs: "Tensor", targets: "Tensor", error: "Tensor"
    ) -> dict[str, tuple[float, float]]:
        """Return the least and the largest value of columns where outputs are known up to an error.

        `loss` and `collapsed` may be among them. Nothing where the task cannot tell.

        Args:
            error: of each output, from 0 on; of a shape that broadcasts to the outputs'.
        """
        return {}

    @property
    def identity(self) -> bytes:
        """Return what the digest of a part takes in of its task."""
        return self.name.encode()

    @property
    def metrics(self) -> tuple[TaskMetric, ...]:
        """Return the printed metrics, the headline first."""
        return (self.headline, *self.others)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return all columns of a record, without those of the validation images."""
        others = (metric.column for metric in self.others)
        return (self.headline.column, *self.unprinted, *others, "test_loss")

    @property
    def validation(self) -> str:
        """Return the column of the headline on the validation images."""
        return f"validation_{self.headline.column}"

    def wrong_values(self, values: Mapping[str, object]) -> str:
        """Say which values of an evaluation are not what the task declares; nothing where all are."""
        declared = set(self.columns) - {"test_loss"}
        if declared != values.keys():
            return (
                f"the task {self.name!r} declares the columns {', '.join(sorted(declared))}, but its "
                f"evaluate gives {', '.join(sorted(values)) or 'none'}"
            )
        shown = {metric.column: metric for metric in self.metrics}
        for column, value in values.items():
            kind = shown[column].wrong(value) if column in shown else _no_number(value)
            if kind:
                return f"{column} of the task {self.name!r} is {value!r}, but must be {kind}"
        return ""

    def wrong_columns(self, values: Mapping[str, object]) -> str:
        """Say which column of a record is not what the task declares; nothing where all are, or missing."""
        for metric in self.metrics:
            for column in (metric.column, f"validation_{metric.column}"):
                kind = metric.wrong(values[column]) if column in values else ""
                if kind:
                    return f"its {column} is {values[column]!r:.60}, but must be {kind}"
        return ""

    def wrong_targets(self, y: "Tensor", classes: int) -> str:
        """Say why these are no targets of this task; nothing where they are, or are not looked at."""
        if self.targets == "input":
            return ""
        if self.targets == "labels" and (y.is_floating_point() or y.dim() != 1):
            return f"the task {self.name!r} wants labels, whole numbers (n,), not {y.dtype} {(*y.shape,)}"
        if self.targets == "numbers" and not (y.is_floating_point() and y.shape[1:] == (classes,)):
            wanted = f"float32 (n, {classes})"
            return f"the task {self.name!r} wants numbers, {wanted}, not {y.dtype} {(*y.shape,)}"
        return ""


class Tasks(Mapping[str, Task]):
    """The tasks that have been defined, by name and in the order of their columns."""

    def __init__(self) -> None:
        self._by_name: dict[str, Task] = {}

    def add(self, cls: type[Task]) -> None:
        """Take in a task; called when its class is defined.

        Raises:
            UsageError: it lacks something, or another file has a task of this name.
        """
        needed = ("targets", "headline", "loss", "evaluate")
        lacking = [n for n in needed if getattr(cls, n, None) is getattr(Task, n, None)]
        if lacking:
            raise UsageError(f"the task {cls.name!r} of {_file(cls)} lacks {', '.join(lacking)}")
        other = type(self._by_name[cls.name]) if cls.name in self._by_name else cls
        # The same file may be imported under two names, and a notebook's cell run again; of a file that
        # is edited between two trials, each is rebuilt with its own.
        is_same = _file(other) == _file(cls) or _is_kept(other) or _is_kept(cls)
        if not is_same or other.__qualname__ != cls.__qualname__:
            raise UsageError(
                f"{_file(cls)} and {_file(other)} both define the task {cls.name!r}; rename one of them"
            )
        self._by_name[cls.name] = cls()

    def __getitem__(self, name: str) -> Task:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._by_name, key=lambda name: (self._by_name[name].place, name)))

    def __len__(self) -> int:
        return len(self._by_name)


def _no_number(value: object) -> str:
    return (
        "" if isinstance(value, int | float) and not isinstance(value, bool) else "a Python number"
    )


def _file(cls: type) -> str:
    """Return the file that defines a class, or its module where there is none."""
    return str(getattr(sys.modules.get(cls.__module__), "__file__", None) or cls.__module__)


def _is_kept(cls: type) -> bool:
    """Return True for classes of the copies that a results folder keeps: `sources/<hash>/FILE`."""
    return _KEPT.search(_file(cls)) is not None


_KEPT = re.compile(r"[/\\]sources[/\\][0-9a-f]{32}[/\\]")
TASKS = Tasks()


def unknown_task(name: str) -> str:
    """Say that no task is called so, and where it may be."""
    return (
        f"the task {name!r}, which this version does not know; if a file of yours defines it, name "
        "the file: --plugin FILE"
    )
