"""EDropout's population of states: energy, evolution and selection as pure functions of tensors.

A state is a row of a boolean tensor (states, units); 1 = unit kept.
"""

from typing import Literal

import torch
from torch import Generator, Tensor

Operator = Literal["diff", "code"]


def energy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return minus the mean margin of a batch: low when the labels win clearly.

    The margin is the label's logit minus the largest other one.

    Args:
        logits: (b, classes), classes >= 2.
        labels: (b,).
    """
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return -(own.squeeze(1) - others.max(1).values).mean()


def first_population(size: int, units: int, p: float, generator: Generator) -> Tensor:
    """Draw states (size, units) whose bits are 1 with probability p."""
    return torch.rand(size, units, generator=generator) < p


def parents_of(size: int, generator: Generator) -> Tensor:
    """Draw three others for each state, all different: (size, 3)."""
    weights = torch.ones(size, size) - torch.eye(size)
    return torch.multinomial(weights, 3, generator=generator)


def offspring(
    states: Tensor, operator: Operator, mutation: float, crossover: float, generator: Generator
) -> Tensor:
    """Return one child per state, (states, units).

    `diff` flips a parent's bit where two others differ; it comes to rest when all states agree.
    `code` is what the released code does: it flips where they agree, writes 0 where they differ,
    and never comes to rest.
    """
    a, b, c = states[parents_of(len(states), generator)].unbind(1)
    u = torch.rand(states.shape, generator=generator)
    w = torch.rand(states.shape, generator=generator)
    return cross(states, mutate(a, b, c, u, operator, mutation), w, crossover)


def mutate(
    a: Tensor, b: Tensor, c: Tensor, u: Tensor, operator: Operator, mutation: float
) -> Tensor:
    """Combine three parents' bits; u is uniform in 0-1 per bit."""
    if operator == "diff":
        return torch.where((b != c) & (u < mutation), ~a, a)
    return torch.where(u > mutation, torch.where(b == c, ~a, torch.zeros_like(a)), a)


def cross(parent: Tensor, mutant: Tensor, w: Tensor, crossover: float) -> Tensor:
    """Take the mutant's bit where w < crossover, the parent's elsewhere."""
    return torch.where(w < crossover, mutant, parent)


def select(
    states: Tensor, energies: Tensor, children: Tensor, child_energies: Tensor
) -> tuple[Tensor, Tensor]:
    """Let each child replace its parent where its energy is lower; ties keep the parent.

    A parent's energy is the one it had when it was born, on an earlier batch: so the best energy
    never rises, and a batch costs one forward pass per child.
    """
    better = child_energies < energies
    return (
        torch.where(better[:, None], children, states),
        torch.where(better, child_energies, energies),
    )


def mean_hamming(states: Tensor) -> float:
    """Return the mean share of bits in which two states differ, over all pairs."""
    n = len(states)
    ones = states.double().sum(0)
    return float((ones * (n - ones)).sum() / (n * (n - 1) / 2) / states.shape[1])


def repair(states: Tensor, sizes: list[int], generator: Generator) -> Tensor:
    """Switch one unit on, uniformly at random, wherever a state would leave a layer empty.

    Args:
        states: (states, units), the layers side by side.
        sizes: width of each layer; they add up to the units.
    """
    parts = list(torch.split(states, sizes, dim=1))
    for i, part in enumerate(parts):
        empty = (~part.any(1)).nonzero().squeeze(1)
        if len(empty):
            part = part.clone()
            part[empty, torch.randint(sizes[i], (len(empty),), generator=generator)] = True
            parts[i] = part
    return torch.cat(parts, dim=1)
