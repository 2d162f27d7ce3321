"""Classification: one label per image."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.data.tasks.base import MAX_STORED_OUTPUTS, Evaluation, Task, TaskMetric

if TYPE_CHECKING:
    from torch import Tensor

COLLAPSE_MARGIN = 0.5  # points within chance


class Classification(Task):
    """One label per image (n,)."""

    name = "classification"
    targets = "labels"
    headline = TaskMetric("top1", "top-1 %", is_percent=True)
    others = (TaskMetric("top5", "top-5 %", is_percent=True),)
    unprinted = ("top3",)
    term = "top-1, top-5"
    meaning = (
        "share of test images whose label is the first, or among the first five, of the outputs; one "
        "pass after the last decision."
    )
    default_model = "lenet-300-100"
    output_words = "logits (batch, classes)"
    picks_class = True
    place = 0

    @property
    def identity(self) -> bytes:
        return b""  # digests are older than the other tasks

    def loss(self, outputs: "Tensor", targets: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)

    def evaluate(self, outputs: "Tensor", targets: "Tensor") -> Evaluation:
        from torch.nn.functional import cross_entropy

        n, classes = outputs.shape
        best = outputs.topk(min(5, classes), dim=1).indices
        hits = best == targets[:, None]

        def top(k: int) -> float:
            return 100 * int(hits[:, :k].sum()) / n

        loss = float(cross_entropy(outputs.double(), targets, reduction="sum")) / n
        collapsed = top(1) <= 100 / classes + COLLAPSE_MARGIN
        values = {"top1": top(1), "top3": top(3), "top5": top(5)}
        return Evaluation(top(1), loss, n, values, collapsed)

    def stored(self, outputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return logits in float16, of up to 200 classes."""
        if any(each.shape[1] > MAX_STORED_OUTPUTS for each in outputs.values()):
            return {}
        return {name: each.half() for name, each in outputs.items()}


CLASSIFICATION = Classification()
