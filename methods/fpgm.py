"""FPGM: drop the filters nearest to the geometric median of their layer; others can stand in for them.

He et al., CVPR 2019 (arXiv 1811.00250), sec. 3.2 and 3.3, in its one-shot form from a trained network.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bench.api import Score, Scores, Site, Trial


@dataclass(frozen=True)
class Fpgm(Score):
    """The same share of every layer's filters goes, those with the smallest sum of distances.

    The paper prunes filters; neurons of linear layers are scored alike here. Where layers are tied
    into one stream, their normalised scores are summed.
    """

    colour: ClassVar[str] = "purple"
    marker: ClassVar[str] = "v"

    step: float | None = None

    def score(self, trial: Trial) -> Scores:
        sites = [site for site in trial.layout.sites if not site.is_input]
        return {site.name: of_site(trial, site) for site in sites}


def of_site(trial: Trial, site: Site) -> Tensor:
    """Return the sum over the site's layers of g, each divided by its mean."""
    left = trial.masks[site.name]  # dropped filters, all zeros, stand in for nobody
    filters = [trial.model.get_parameter(f"{m}.weight").detach()[left] for m in site.modules]
    sums = [distance_sums(f.flatten(1)) for f in filters]
    if len(sums) > 1:
        sums = [g / g.mean().clamp(min=1e-30) for g in sums]
    scores = torch.zeros(site.size, dtype=torch.float64, device=left.device)
    scores[left] = torch.stack(sums).sum(0)
    return scores


def distance_sums(filters: Tensor) -> Tensor:
    """Return g(i) = sum over j of ||f_i - f_j|| (eq. 4), float64 (n,).

    Args:
        filters: (n, weights of one filter); biases and normalisation do not count.
    """
    rows = filters.double()
    squares = rows.square().sum(1)
    # Through the Gram matrix in float64: ten times as fast as pairs, exact to 1e-7 of a distance.
    apart = (squares[:, None] + squares[None, :] - 2 * rows @ rows.T).clamp(min=0).sqrt()
    apart.fill_diagonal_(0)
    return apart.sum(1)
