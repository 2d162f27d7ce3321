"""L1-filter: drop the filters with the smallest sum of absolute weights.

Li et al., ICLR 2017 (arXiv 1608.08710), "Pruning Filters for Efficient ConvNets", sec. 3.1, one-shot from
a trained network. The paper prunes the first convolution of each residual block only
(`--coupling internal`) and fine-tunes at a constant low rate (`lr_scale`).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from bench.api import Score, Scores, Trial


@dataclass(frozen=True)
class L1Filter(Score):
    """The same share of every layer's filters goes; neurons of linear layers are scored alike."""

    colour: ClassVar[str] = "blue"
    marker: ClassVar[str] = "^"

    step: float | None = None

    def score(self, trial: Trial) -> Scores:
        """Return the sum of |w| per filter (sec. 3.1); over the layers of a stream where units are tied."""
        scores = {}
        for site in trial.layout.sites:
            if not site.is_input:
                weights = [trial.model.get_parameter(f"{m}.weight").detach() for m in site.modules]
                scores[site.name] = torch.stack([w.abs().flatten(1).sum(1) for w in weights]).sum(0)
        return scores
