"""Trace a network and find its layers and units, whoever wrote it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bench.choices import Coupling
from bench.errors import users_code
from bench.graph import channels as flows
from bench.graph.dependency import follow
from bench.graph.eval_mode import evaluating
from bench.graph.following import Following
from bench.graph.layers import Layer, Reading, Site
from bench.graph.nodes import LeafTracer, TensorShape, shapes_of, writes_into
from bench.graph.operations.layer_calls import LayerCall
from bench.graph.operations.plain import Number
from bench.graph.operations.positions import PerChannel
from bench.graph.operations.reshaping import Reshape
from bench.graph.structure import Layout


def layout_of(model: nn.Module, example: Tensor, coupling: Coupling = "tied") -> Layout:
    """Find the layers and units of a network.

    A network that cannot be traced still has prunable weights, but no units: `Layout.refused` says
    why, layer by layer.

    Args:
        model: any network; left as it was found.
        example: one input (1, channels, height, width).
        coupling: `tied`: units that are added into one stream are one decision; `branch`: each
            layer has its own.

    Raises:
        UsersCodeFailed: its forward cannot be run.
    """
    parameters = {name: tuple(p.shape) for name, p in model.named_parameters()}
    layers = _layers(model, example)
    try:
        graph, shapes = _traced(model, example)
    except Exception as error:  # tracing runs the user's forward: anything may come out of it
        first = str(error).partition("\n")[0]
        why = f"the network's forward cannot be traced ({type(error).__name__}: {first})"
        return Layout(tuple(layers.values()), (), parameters, refused=dict.fromkeys(layers, why))
    walk, operations = follow(graph, layers, shapes, coupling)
    refused = {name: walk.refused[name] for name in layers if name in walk.refused}
    followed = tuple(
        replace(
            layer,
            inputs=walk.inputs.get(name, flows.unknown(layer.n_inputs)),
            reads_channels=name in walk.inputs,
            is_prunable_output=name not in refused,
            is_removable_output=name not in refused or name in walk.emitting,
        )
        for name, layer in layers.items()
    )
    streams = tuple(walk.sums) if coupling == "intersection" else ()
    return Layout(
        followed, _with_empty(followed, _sites(followed, walk)), parameters,
        tuple(walk.norms), refused, walk.gates, coupling, streams, graph, walk.channels, operations,
    )  # fmt: skip


def _traced(model: nn.Module, example: Tensor) -> tuple[fx.GraphModule, dict[str, TensorShape]]:
    """Trace a network, and run the traced one to see the shape of each tensor in it."""
    with evaluating(model):  # functional dropout writes the flag of this moment into the graph
        graph = fx.GraphModule(model, LeafTracer().trace(model))
        shapes = shapes_of(graph, example)
    for node in graph.graph.nodes:
        node.meta["shape"] = shapes.get(node.name)
    return graph, shapes


def _layers(model: nn.Module, example: Tensor) -> dict[str, Layer]:
    """Run one image and note, per layer in order of use, at how many positions it is applied."""
    seen: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Tensor) -> None:
            per_image = output.numel() // output.shape[1 if isinstance(module, nn.Conv2d) else -1]
            seen[name] = seen.get(name, 0) + per_image

        return hook

    found = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    handles = [m.register_forward_hook(note(n)) for n, m in found.items()]
    try:
        with evaluating(model), torch.no_grad(), users_code():
            model(example)
    finally:
        for handle in handles:
            handle.remove()
    return {name: _layer(name, found[name], positions) for name, positions in seen.items()}


def _layer(name: str, module: nn.Module, positions: int) -> Layer:
    assert isinstance(module, nn.Conv2d | nn.Linear)
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    shape, has_bias = tuple(module.weight.shape), module.bias is not None
    return Layer(name, shape, has_bias, positions, groups=groups)


def _sites(layers: tuple[Layer, ...], walk: Following) -> list[Site]:
    """Return one site per group of tied layers, and one for inputs that no linear layer puts out."""
    sites: dict[str, Site] = {}
    # What a sigmoid puts out is no unit of its own, but may be left out by the layer that reads it.
    is_linear = {la.name for la in layers if not la.is_convolution} - walk.emitting.keys()
    for layer in layers:
        sources = {name for segment in layer.inputs for name, _ in segment.sources}
        if layer.reads_channels and not layer.is_convolution and not sources <= is_linear:
            name = f"input:{layer.name}"
            sites[name] = Site(name, layer.n_inputs, (layer.name,))
        if layer.is_prunable_output:
            name = walk.groups.first_of(layer.name)
            modules = (*(sites[name].modules if name in sites else ()), layer.name)
            readings = [r for m in modules for r in walk.groups.readings.get(m, ())]
            unique = tuple(dict.fromkeys(readings))
            sites[name] = Site(name, layer.weight_shape[0], modules, unique)
    return list(sites.values())


def _with_empty(layers: tuple[Layer, ...], sites: list[Site]) -> tuple[Site, ...]:
    """Mark the sites that may lose all their units, one after the other, while a path is left."""
    gone: set[str] = set()
    marked = []
    for site in sites:
        without = gone.union(site.modules)
        if not site.is_input and _is_connected(layers, without):
            gone = without
            site = replace(site, may_be_empty=True)
        marked.append(site)
    return tuple(marked)


def _is_connected(layers: tuple[Layer, ...], gone: set[str]) -> bool:
    """Return True where the network's input reaches every layer that cannot lose units."""
    reached = {""}
    for layer in layers:
        sources = {name for segment in layer.inputs for name, _ in segment.sources}
        if layer.name not in gone and sources & reached:
            reached.add(layer.name)
    return all(layer.name in reached for layer in layers if not layer.is_prunable_output)


def activations(layout: Layout, x: Tensor) -> dict[str, Tensor]:
    """Run a batch through the network and return each hidden site's post-activation values.

    Args:
        layout: of the network; its graph shares the network's own modules and training flag.
        x: images (b, channels, height, width).

    Returns:
        Site name to a tensor (b, units, ...): the values as they stand in the network, or, where
        units are read in several places (a residual stream), (b, units, all their positions).
    """
    assert layout.graph is not None, layout.why_no_sites
    wanted = {reading.node for site in layout.sites for reading in site.readings}
    overwritten = {n for n in layout.graph.graph.nodes if any(writes_into(u, n) for u in n.users)}
    caught: dict[str, Tensor] = {}

    class Catch(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if n.name in wanted:
                caught[n.name] = result.clone() if n in overwritten else result
            return result

    Catch(layout.graph).run(x)
    found = {}
    for site in layout.sites:
        values = [_read(caught[reading.node], reading) for reading in site.readings]
        if len(values) == 1:
            found[site.name] = values[0]
        elif values:
            found[site.name] = torch.cat([v.reshape(*v.shape[:2], -1) for v in values], dim=2)
    return found


def _read(values: Tensor, reading: Reading) -> Tensor:
    width = reading.length * reading.repeat
    if values.shape[1] != width:
        values = values[:, reading.start : reading.start + width]
    return values if reading.repeat == 1 else values.view(len(values), reading.length, -1)


def layers_reading_input(layout: Layout) -> list[str]:
    """Return the layers that read the whole input as it is, or flattened; none where anything else does."""
    if layout.graph is None:
        return []
    waiting = [n for n in layout.graph.graph.nodes if n.op == "placeholder"]
    names = []
    while waiting:
        for user in waiting.pop().users:
            operation = layout.operations.get(user.name)
            if isinstance(operation, LayerCall):
                names.append(str(user.target))
            elif isinstance(operation, Reshape | PerChannel):
                waiting.append(user)
            elif not isinstance(operation, Number):
                return []
    return names
