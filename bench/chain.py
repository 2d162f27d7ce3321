"""Read a traced network from input to output as a chain of layers, or say what stands in the way."""

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bench.layout import Layer, Site

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


class NotAChain(Exception):
    pass


class LeafTracer(fx.Tracer):
    """Stops at every module of torch.nn, and at nothing else."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m.__module__.startswith("torch.nn") and not isinstance(m, nn.Sequential)


def shapes_of(graph: fx.GraphModule, example: Tensor) -> dict[str, tuple[int, ...]]:
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


class Chain:
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
                raise NotAChain(f"the result of {node.name!r} is used {len(node.users)} times")
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
            raise NotAChain(f"the operation {node.name!r} is not one that units pass through alone")

    def _flatten(self, node: fx.Node) -> None:
        shape = self.shapes[node.name]
        if len(shape) != 2 or shape[0] != 1:  # the example is one image
            raise NotAChain(f"{node.name!r} does not flatten an image into one row")
        self.flattened = True

    def _module(self, name: str, node: fx.Node) -> None:
        module = self.modules[name]
        if name in self.used and next(module.parameters(), None) is not None:
            raise NotAChain(f"the layer {name!r} is used more than once")
        self.used.add(name)
        if isinstance(module, nn.Conv2d | nn.Linear):
            self._weighted(name, module, node)
        elif isinstance(module, _NORMS):
            if self.source is None or self.flattened:
                raise NotAChain(f"the normalisation {name!r} does not follow a layer directly")
            if not module.affine:
                raise NotAChain(f"the normalisation {name!r} has no scale to silence a unit with")
            if self.norm is not None:
                raise NotAChain(f"{name!r} is the second normalisation after {self.source!r}")
            self.norm, self.activation = name, node.name
        elif isinstance(module, _ACTIVATIONS):
            self.activation = node.name
        elif isinstance(module, nn.Flatten):
            self._flatten(node)
        elif not isinstance(module, _POOLS):
            raise NotAChain(
                f"the module {name!r} ({type(module).__name__}) is not known to pass units"
            )

    def _weighted(self, name: str, module: nn.Conv2d | nn.Linear, node: fx.Node) -> None:
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise NotAChain(f"the layer {name!r} is a grouped convolution")
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
