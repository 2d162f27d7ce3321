"""The physically smaller network of a trial, and the proof that it computes the same function."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph.count import count, live_units
from bench.graph.cut import compact
from bench.graph.eval_mode import evaluating
from bench.graph.rewriting import CannotCut
from bench.graph.structure import Layout
from bench.seeds import generator

PROOF_INPUTS = 8
FEWER_INPUTS = 2  # of a large network
LARGE = 10**9  # multiply-adds for one input
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
    smaller, why_whole = model, ""
    if layout.graph is not None and _anything_dead(layout, masks):
        try:
            smaller = compact(model, layout, masks)
        except CannotCut as refusal:
            # Who masks units wants them gone; single weights are gone all the same.
            if any(name not in layout.weights for name in masks):
                raise
            why_whole = str(refusal)
    error = 0.0
    if smaller is not model:
        error = difference(model, layout, masks, shape)
    elif layout.graph is not None:
        error = difference_of_graph(model, layout, shape)
    if not error <= MOST_ERROR:
        which = "graph of the network" if smaller is model else "network without its dropped units"
        raise TrialFailed(
            f"the {which} differs from the masked one by {error:.1e}, more than {MOST_ERROR:g}: please "
            "report this with the network"
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
    x = _proof_inputs(layout, shape)
    exact = copy.deepcopy(model).cpu().double()
    on_cpu = {name: mask.cpu() for name, mask in masks.items()}
    with torch.no_grad(), evaluating(exact):
        expected = exact(x)
        found = compact(exact, layout, on_cpu)(x)
    return _relative(expected, found)


def difference_of_graph(model: nn.Module, layout: Layout, shape: tuple[int, int, int]) -> float:
    """Return the largest difference of a network's logits and those of its traced graph.

    Nothing is dead: the graph runs the very layers of the network, so that what is random may be
    drawn twice alike, and a network that float64 does not go through is compared in its own type.
    """
    x = _proof_inputs(layout, shape)
    pair = copy.deepcopy((model, layout.graph))  # together: the graph's layers are the network's

    def outputs(x: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for network in pair:
            assert network is not None
            with torch.random.fork_rng(), torch.no_grad(), evaluating(network):
                torch.manual_seed(0)
                found.append(network(x.clone()).cpu().double())
        return found[0], found[1]

    try:
        pair[0].cpu().double()
        return _relative(*outputs(x))
    except RuntimeError:  # a forward that names a type of its own
        pair = copy.deepcopy((model, layout.graph))
        pair[0].cpu()
        return _relative(*outputs(x.float()))


def _proof_inputs(layout: Layout, shape: tuple[int, int, int]) -> Tensor:
    """Return random images (n, channels, height, width) in float64; few where the network is large."""
    number = FEWER_INPUTS if count(layout, {}).macs_dense > LARGE else PROOF_INPUTS
    return torch.randn(number, *shape, generator=generator(0, "proof"), dtype=torch.float64)


def _relative(expected: Tensor, found: Tensor) -> float:
    """Return the largest difference; outputs that are the same number, or none in both, have none."""
    same = (expected == found) | (expected.isnan() & found.isnan())
    scale = max(1.0, float(expected.nan_to_num(0.0, 0.0, 0.0).abs().max()))
    return float((expected - found).masked_fill(same, 0.0).abs().max()) / scale


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
