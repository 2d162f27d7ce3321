"""Where a network has units: found from its graph, so that a stranger's network works too.

A *site* is a group of units that masks speak of. `"conv1"` are the filters of the layer `conv1`, each
with its bias and its normalisation affine; `"input:fc1"` are the inputs of a linear layer that is fed
by pixels or by a flattened feature map. The classifier's outputs are never units.

Chains of layers are understood here. A network that adds, concatenates or reuses layers still has
prunable weights, but no sites: `Layout.why_no_sites` says which operation stood in the way.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Elementwise and zero-preserving: a unit that is 0 before is 0 after.
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.Hardswish)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout,
          nn.Dropout2d, nn.Identity)  # fmt: skip
_FUNCTIONS: dict[Any, str] = {
    F.relu: "activation", torch.relu: "activation", F.leaky_relu: "activation",
    torch.tanh: "activation", F.gelu: "activation", F.silu: "activation",
    F.max_pool2d: "pass", F.avg_pool2d: "pass", F.adaptive_avg_pool2d: "pass",
    torch.max_pool2d: "pass", F.dropout: "pass", torch.flatten: "flatten",
}  # fmt: skip
_TENSOR_METHODS = {"relu": "activation", "tanh": "activation", "contiguous": "pass",
                   "flatten": "flatten", "view": "flatten", "reshape": "flatten"}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """A group of units.

    Attributes:
        name: the producing module's name, or `input:` and the consuming module's.
        size: number of units.
        module: the layer whose rows (outputs) or columns (inputs) the units are.
        norm: the BatchNorm whose affine belongs to the units.
        gate: the module whose output (for inputs: whose input) a gate multiplies.
        activation: graph node that holds the post-activation values.
    """

    name: str
    size: int
    module: str
    norm: str | None = None
    gate: str = ""
    activation: str = ""

    @property
    def is_input(self) -> bool:
        return self.name.startswith("input:")


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer as masks see it.

    Attributes:
        source: the layer that feeds it; None when that is the network's input.
        columns_per_unit: how many of this layer's inputs one unit of the source becomes (flatten).
        positions: output positions per image: MACs are positions x weights.
        is_prunable_output: False for the classifier.
    """

    name: str
    weight_shape: tuple[int, ...]
    has_bias: bool
    positions: int
    source: str | None = None
    columns_per_unit: int = 1
    is_prunable_output: bool = False
    norm: str | None = None


@dataclass(frozen=True)
class Layout:
    """All that masks need to know of a network."""

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    parameters: dict[str, tuple[int, ...]] = field(repr=False)
    why_no_sites: str = ""
    graph: fx.GraphModule | None = field(default=None, repr=False, compare=False)

    def site(self, name: str) -> Site:
        return next(s for s in self.sites if s.name == name)

    @property
    def weights(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the prunable weights: those of convolutions and linear layers."""
        return {f"{layer.name}.weight": layer.weight_shape for layer in self.layers}

    @property
    def has_convolutions(self) -> bool:
        return any(len(layer.weight_shape) == 4 for layer in self.layers)


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
    was_training = model.training
    model.eval()  # functional dropout writes the flag of this moment into the graph
    try:
        graph = fx.GraphModule(model, _LeafTracer().trace(model))
        chain = _Chain(graph, modules, plain, _shapes(graph, example))
        layers, sites = chain.read()
    except _NotAChain as reason:
        return Layout(tuple(plain.values()), (), parameters, str(reason))
    except Exception as error:  # tracing runs the user's forward: anything may come out of it
        why = f"its forward cannot be traced ({type(error).__name__}: {error})"
        return Layout(tuple(plain.values()), (), parameters, why)
    finally:
        model.train(was_training)
    return Layout(tuple(layers), tuple(sites), parameters, graph=graph)


class _NotAChain(Exception):
    pass


class _LeafTracer(fx.Tracer):
    """Stops at every module of torch.nn, and at nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


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
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model(example)
    model.train(was_training)
    for handle in handles:
        handle.remove()
    return seen


def _layer(name: str, module: nn.Module, positions: int) -> Layer:
    assert isinstance(module, nn.Conv2d | nn.Linear)
    return Layer(name, tuple(module.weight.shape), module.bias is not None, positions)


def _shapes(graph: fx.GraphModule, example: Tensor) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in the graph, by node name."""
    shapes: dict[str, tuple[int, ...]] = {}

    class Note(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, Tensor):
                shapes[n.name] = tuple(result.shape)
            return result

    with torch.no_grad():
        Note(graph).run(example)
    return shapes


def _asks_size(node: fx.Node) -> bool:
    """Whether a node only computes with sizes: x.size(0), x.shape[0], len(x)."""
    if node.op == "call_method":
        return node.target == "size"
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return str(node.args[1]) == "shape"
    sources = [a for a in node.args if isinstance(a, fx.Node)]
    return bool(sources) and all(_asks_size(a) for a in sources)


class _Chain:
    """Walks a traced network from input to output and refuses anything that branches."""

    def __init__(
        self,
        graph: fx.GraphModule,
        modules: dict[str, nn.Module],
        plain: dict[str, Layer],
        shapes: dict[str, tuple[int, ...]],
    ) -> None:
        self.graph, self.modules, self.plain, self.shapes = graph, modules, plain, shapes
        self.used: set[str] = set()
        self.source: str | None = None  # the last layer met
        self.norm: str | None = None
        self.activation = ""
        self.flattened = False
        self.layers: list[Layer] = []
        self.sites: list[Site] = []

    def read(self) -> tuple[list[Layer], list[Site]]:
        for node in self.graph.graph.nodes:
            if node.op == "output":
                break
            if _asks_size(node):
                continue
            if self._branches(node):
                raise _NotAChain(f"the result of {node.name!r} is used {len(node.users)} times")
            self._visit(node)
        return self.layers, self.sites

    def _branches(self, node: fx.Node) -> bool:
        """Whether more than one use wants the values and not just the size (x.view(len(x), -1))."""
        return sum(not _asks_size(user) for user in node.users) > 1

    def _visit(self, node: fx.Node) -> None:
        if node.op in ("placeholder", "get_attr"):
            return
        if node.op == "call_module":
            self._module(str(node.target), node)
            return
        table: dict[Any, str] = _FUNCTIONS if node.op == "call_function" else _TENSOR_METHODS
        role = table.get(node.target)
        if role == "activation":
            self.activation = node.name
        elif role == "flatten":
            self._flatten(node)
        elif role is None:
            raise _NotAChain(
                f"the operation {node.name!r} is not one that units pass through alone"
            )

    def _flatten(self, node: fx.Node) -> None:
        if len(self.shapes[node.name]) != 2:
            raise _NotAChain(f"{node.name!r} does not flatten an image into one row")
        self.flattened = True

    def _module(self, name: str, node: fx.Node) -> None:
        module = self.modules[name]
        if name in self.used and next(module.parameters(), None) is not None:
            raise _NotAChain(f"the layer {name!r} is used more than once")
        self.used.add(name)
        if isinstance(module, nn.Conv2d | nn.Linear):
            self._weighted(name, module, node)
        elif isinstance(module, _NORMS):
            if self.source is None or self.flattened:
                raise _NotAChain(f"the normalisation {name!r} does not follow a layer directly")
            if not module.affine:
                raise _NotAChain(f"the normalisation {name!r} has no scale to silence a unit with")
            if self.norm is not None:
                raise _NotAChain(f"{name!r} is the second normalisation after {self.source!r}")
            self.norm, self.activation = name, node.name
        elif isinstance(module, _ACTIVATIONS):
            self.activation = node.name
        elif isinstance(module, nn.Flatten):
            self._flatten(node)
        elif not isinstance(module, _POOLS):
            raise _NotAChain(
                f"the module {name!r} ({type(module).__name__}) is not known to pass units"
            )

    def _weighted(self, name: str, module: nn.Conv2d | nn.Linear, node: fx.Node) -> None:
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise _NotAChain(f"the layer {name!r} is a grouped convolution")
        inputs = module.weight.shape[1]
        columns = 1
        if self.source is not None:
            columns = inputs // self._close_site()
        if isinstance(module, nn.Linear) and self._fed_by_pixels_or_maps():
            self.sites.append(Site(f"input:{name}", inputs, name, gate=name))
        self.layers.append(
            Layer(**{**vars(self.plain[name]), "source": self.source, "columns_per_unit": columns})
        )
        self.source, self.norm, self.activation = name, None, node.name
        self.flattened = False

    def _fed_by_pixels_or_maps(self) -> bool:
        return self.source is None or len(self.plain[self.source].weight_shape) == 4

    def _close_site(self) -> int:
        """The layer just before turns out to be hidden: its outputs are units. Returns how many."""
        last = self.layers[-1]
        changes = {"is_prunable_output": True, "norm": self.norm}
        self.layers[-1] = Layer(**{**vars(last), **changes})
        site = Site(last.name, last.weight_shape[0], last.name, self.norm,
                    gate=self.norm or last.name, activation=self.activation)  # fmt: skip
        self.sites.append(site)
        return site.size


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
