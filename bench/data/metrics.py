"""The metrics of each task: their columns, their titles, and which way is better."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskMetric:
    """A metric of a network's outputs: one column of a record.

    Attributes:
        column: its name in records and tables of numbers.
        title: its name in printed tables and figures.
        is_percent: a share of test images, 0-100; else an error that may have any size.
    """

    column: str
    title: str
    is_percent: bool = False
    higher_is_better: bool = False

    def in_words(self, value: float) -> str:
        """Return the value as a phrase: top-1 97.53 %, NMSE 3.6e-05."""
        if self.is_percent:
            return f"{self.title.removesuffix(' %')} {value:.2f} %"
        return f"{self.title} {value:.3g}"


@dataclass(frozen=True)
class TaskMetrics:
    """The metrics that are reported of a task.

    Attributes:
        headline: what tables compare and figures draw.
        others: printed beside it.
        columns: all that a record holds of it, without those of the validation images.
    """

    headline: TaskMetric
    others: tuple[TaskMetric, ...]
    columns: tuple[str, ...]

    @property
    def validation(self) -> str:
        """The column of the headline on the validation images."""
        return f"validation_{self.headline.column}"


TASKS = {
    "classification": TaskMetrics(
        TaskMetric("top1", "top-1 %", is_percent=True, higher_is_better=True),
        (TaskMetric("top5", "top-5 %", is_percent=True, higher_is_better=True),),
        ("top1", "top3", "top5", "test_loss"),
    ),
    "regression": TaskMetrics(
        TaskMetric("nmse", "NMSE"),
        (TaskMetric("max_error", "largest error"),),
        ("nmse", "mse", "max_error", "test_loss"),
    ),
    "autoencoder": TaskMetrics(TaskMetric("mse", "pixel MSE"), (), ("mse", "test_loss")),
}
