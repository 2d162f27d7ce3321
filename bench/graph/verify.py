"""The physically smaller network of a trial, and the proof that it computes the same function."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph.count import live_units
from bench.graph.cut import compact
from bench.graph.eval_mode import evaluating
from bench.graph.rewriting import CannotCut
from bench.graph.structure import Layout
from bench.seeds import generator

PROOF_INPUTS = 8
MOST_ERROR = 1e-12


@dataclass(frozen=True)
class Removed:
    """A network after real removal.

    Attributes:
        network: the smaller one, or the given one where no unit is dead.
        parameters: elements of all its parameters.
        multiply_adds: of convolutions and linear layers for one image, counted by torch.
        why_whole: why dead units were left in it; empty where none was.
        error: largest difference of a logit from the masked network's, float64, relative to
            max(1, largest logit).
    """

    network: nn.Module
    parameters: int
    multiply_adds: int
    error: float
    why_whole: str = ""


def removed(
    model: nn.Module, layout: Layout, masks: Mapping[str, Tensor], shape: tuple[int, int, int]
) -> Removed:
    """Cut dead units out of a network whose masked weights are zero, and prove it.

    Args:
        shape: channels, height and width of the images that the network takes.

    Raises:
        TrialFailed: the smaller network computes something else.
        CannotCut: a unit that a mask dropped cannot be removed.
    """
    smaller, error, why_whole = model, 0.0, ""
    if layout.graph is not None and _anything_dead(layout, masks):
        try:
            smaller = compact(model, layout, masks)
        except CannotCut as refusal:
            # Who masks units wants them gone; single weights are gone all the same.
            if any(name not in layout.weights for name in masks):
                raise
            why_whole = str(refusal)
    if smaller is not model:
        error = difference(model, layout, masks, shape)
        if not error <= MOST_ERROR:
            raise TrialFailed(
                f"the network without its dropped units differs from the masked one by {error:.1e}, "
                f"more than {MOST_ERROR:g}: please report this with the network"
            )
    parameters = sum(p.numel() for p in smaller.parameters())
    return Removed(smaller, parameters, multiply_adds(smaller, shape), error, why_whole)


def difference(
    model: nn.Module, layout: Layout, masks: Mapping[str, Tensor], shape: tuple[int, int, int]
) -> float:
    """Return the largest difference of the masked and the smaller network's logits on random inputs.

    Both in float64 on the CPU, removal included: a bias that is folded into another would be rounded
    in float32.
    """
    x = torch.randn(PROOF_INPUTS, *shape, generator=generator(0, "proof"), dtype=torch.float64)
    exact = copy.deepcopy(model).cpu().double()
    on_cpu = {name: mask.cpu() for name, mask in masks.items()}
    with torch.no_grad(), evaluating(exact):
        expected = exact(x)
        found = compact(exact, layout, on_cpu)(x)
    return float((expected - found).abs().max()) / max(1.0, float(expected.abs().max()))


def multiply_adds(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Count the multiply-adds for one image by torch's own counter, which counts two operations each."""
    from torch.utils.flop_counter import FlopCounterMode  # planning needs none of its imports

    x = torch.zeros(1, *shape, device=next(network.parameters()).device)
    with torch.no_grad(), evaluating(network), FlopCounterMode(display=False) as counter:
        network(x)
    return int(counter.get_total_flops()) // 2


def _anything_dead(layout: Layout, masks: Mapping[str, Tensor]) -> bool:
    if not masks:
        return False
    live = live_units(layout, masks)
    return not all(bool(b.all()) for bits in (live.out, live.inputs) for b in bits.values())
