"""Find a network's units from its graph, so that a stranger's network works too.

Chains of layers are understood here. A network that adds, concatenates or reuses layers still has
prunable weights, but no sites: `Layout.why_no_sites` says which operation stood in the way.
"""

from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.chain import Chain, LeafTracer, NotAChain, shapes_of
from bench.layout import Layer, Layout
from bench.modes import evaluating


def layout_of(model: nn.Module, example: Tensor) -> Layout:
    """Find the layers and units of a network.

    Args:
        model: any network; left as it was found.
        example: one input (1, channels, height, width).
    """
    positions = _output_positions(model, example)
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    modules = dict(model.named_modules())
    plain = {name: _layer(name, modules[name], positions[name]) for name in positions}
    try:
        with evaluating(model):  # functional dropout writes the flag of this moment into the graph
            graph = fx.GraphModule(model, LeafTracer().trace(model))
            chain = Chain(graph, modules, plain, shapes_of(graph, example))
            layers, sites = chain.read()
    except NotAChain as reason:
        return Layout(tuple(plain.values()), (), parameters, str(reason))
    except Exception as error:  # tracing runs the user's forward: anything may come out of it
        why = f"its forward cannot be traced ({type(error).__name__}: {error})"
        return Layout(tuple(plain.values()), (), parameters, why)
    return Layout(tuple(layers), tuple(sites), parameters, graph=graph)


def _output_positions(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Run one image and note, per layer in order of use, at how many positions it is applied."""
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            per_image = output[0].numel() // output.shape[1 if output.dim() == 4 else -1]
            seen[name] = seen.get(name, 0) + per_image

        return hook

    layers = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    handles = [m.register_forward_hook(note(n)) for n, m in layers]
    with evaluating(model), torch.no_grad():
        model(example)
    for handle in handles:
        handle.remove()
    return seen


def _layer(name: str, module: nn.Module, positions: int) -> Layer:
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return Layer(name, tuple(module.weight.shape), module.bias is not None, positions)


def activations(layout: Layout, x: Tensor) -> dict[str, Tensor]:
    """Run a batch through the network and return each hidden site's post-activation values.

    Args:
        layout: of the network; its graph shares the network's own modules and training flag.
        x: images (b, channels, height, width).

    Returns:
        Site name to a tensor (b, units, ...).
    """
    assert layout.graph is not None, layout.why_no_sites
    wanted = {site.activation: site.name for site in layout.sites if not site.is_input}
    caught: dict[str, Tensor] = {}

    class Catch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.name in wanted:
                caught[wanted[n.name]] = result
            return result

    Catch(layout.graph).run(x)
    return caught
