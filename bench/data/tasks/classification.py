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
        collapsed = _is_collapsed(top(1), classes)
        values = {"top1": top(1), "top3": top(3), "top5": top(5)}
        return Evaluation(top(1), loss, n, values, collapsed)

    def spans(
        self, outputs: "Tensor", targets: "Tensor", error: "Tensor"
    ) -> dict[str, tuple[float, float]]:
        """Count an image where no error could change its place, and where some error could."""
        n, classes = outputs.shape
        low, high = outputs - error, outputs + error
        own_low, own_high = (each.gather(1, targets[:, None]) for each in (low, high))
        surely_above = (low > own_high).sum(1)
        perhaps_above = (high >= own_low).sum(1) - 1  # its own

        def share(above: "Tensor", k: int) -> float:
            return 100 * int((above < k).sum()) / n

        found = {f"top{k}": (share(perhaps_above, k), share(surely_above, k)) for k in (1, 3, 5)}
        loss = self.evaluate(outputs, targets).loss
        # Cross-entropy moves by no more than the label's output and the largest of all together.
        moved = 2 * float((high - outputs).amax(1).double().mean())
        worst, best = (_is_collapsed(top, classes) for top in found["top1"])
        return found | {"loss": (loss - moved, loss + moved), "collapsed": (best, worst)}

    def stored(self, outputs: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
        """Return logits in float16, of up to 200 classes."""
        if any(each.shape[1] > MAX_STORED_OUTPUTS for each in outputs.values()):
            return {}
        return {name: each.half() for name, each in outputs.items()}


def _is_collapsed(top1: float, classes: int) -> bool:
    return top1 <= 100 / classes + COLLAPSE_MARGIN


CLASSIFICATION = Classification()
