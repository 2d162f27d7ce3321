"""Trained weight sharing: every layer's weights take few values, which go on learning.

Han, Mao & Dally, "Deep Compression", ICLR 2016 (arXiv 1510.00149), sec. 3.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.api import Callback, Trial
from bench.methods._kmeans import Seeding, kmeans


def clustered(trial: Trial, bits: dict[str, int], start: Seeding) -> dict[str, Tensor]:
    """Group each layer's kept weights (sec. 3.1, 3.2); for `Trial.once`.

    A layer of b bits has 2^b - 1 values: one code stands for dropped weights.

    Args:
        bits: by parameter name.

    Returns:
        By parameter name the codebook (k,), and under `name/assignment` each weight's place in it;
        k where it is dropped.
    """
    found: dict[str, Tensor] = {}
    for name, width in bits.items():
        weight, kept = trial.model.get_parameter(name).detach(), trial.masks[name]
        clusters = kmeans(weight[kept], 2**width - 1, start, generator=trial.rng(f"share/{name}"))
        places = torch.full(weight.shape, len(clusters.centroids), dtype=torch.int32)
        places[kept.cpu()] = clusters.assignment.int()
        found |= {name: clusters.centroids, f"{name}/assignment": places}
    return found


@torch.no_grad()
def share(trial: Trial, found: dict[str, Tensor]) -> "SharedTraining":
    """Put the shared values into the network, and return what keeps them shared in a training."""
    names = tuple(name for name in found if not name.endswith("/assignment"))
    for name in names:
        weight = trial.model.get_parameter(name)
        with_zero = torch.cat([found[name], found[name].new_zeros(1)]).to(weight)
        weight.copy_(with_zero[found[f"{name}/assignment"].to(weight.device).long()])
    places = [found[f"{name}/assignment"].flatten() for name in names]
    return SharedTraining(names, torch.cat(places))


@dataclass
class SharedTraining(Callback):
    """Moves the weights that share a value together, by the sum of their gradients (sec. 3.3, eq. 3).

    Members start equal and get equal gradients, so each of them is its group's centroid; no
    parameter is added. Weight decay is taken off shared weights: it would count once per member.

    Attributes:
        layers: parameter names.
        assignment: each weight's group, of all layers in a row, int32.
    """

    layers: tuple[str, ...]
    assignment: Tensor

    def gradients(self, trial: Trial) -> None:
        decay = trial.recipe.weight_decay
        for name, group in self._groups(trial):
            weight = trial.model.get_parameter(name)
            assert weight.grad is not None
            sums = torch.zeros(int(group.max()) + 1, device=group.device)
            sums.index_add_(0, group, weight.grad.flatten())
            weight.grad.copy_(sums[group].view_as(weight).sub_(weight.detach(), alpha=decay))

    @torch.no_grad()
    def step(self, trial: Trial, lr: float) -> None:
        # Vectorised and single elements of a fused step may be rounded differently: tie them again.
        for name, group in self._groups(trial):
            weight = trial.model.get_parameter(name)
            values = torch.zeros(int(group.max()) + 1, device=group.device)
            values[group] = weight.detach().flatten()
            weight.copy_(values[group].view_as(weight))

    def _groups(self, trial: Trial) -> "list[tuple[str, Tensor]]":
        weights = [trial.model.get_parameter(name) for name in self.layers]
        groups = self.assignment.to(weights[0].device).long()
        parts = torch.split(groups, [weight.numel() for weight in weights])
        return list(zip(self.layers, parts, strict=True))
