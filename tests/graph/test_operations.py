"""Every call that an operation says it handles is followed, and cut exactly."""

import importlib.util
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from removal_checks import drawn, lively, masked_copy
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from bench.graph.cut import compact
from bench.graph.operations import base
from bench.graph.operations.base import Operation
from bench.graph.structure import Layout
from bench.graph.trace import layout_of

STOCHASTIC_DEPTH = "torchvision.ops.stochastic_depth.stochastic_depth"
# How a call is made of a tensor x with six channels, and of another one, y; by what is handled.
PLAIN: Callable[..., Any] = lambda f, x, y: f(x)  # noqa: E731
METHOD: Callable[..., Any] = lambda name, x, y: getattr(x, name)()  # noqa: E731
WINDOW: Callable[..., Any] = lambda f, x, y: f(x, 2)  # noqa: E731
BOTH: Callable[..., Any] = lambda f, x, y: f(x, y)  # noqa: E731
BOTH_BY_NAME: Callable[..., Any] = lambda name, x, y: getattr(x, name)(y)  # noqa: E731
BY_TWO: Callable[..., Any] = lambda f, x, y: f(x, 2.0)  # noqa: E731
CALLS: dict[object, Callable[..., Any]] = {
    F.max_pool2d: WINDOW, torch.max_pool2d: WINDOW, F.avg_pool2d: WINDOW,
    F.adaptive_avg_pool2d: WINDOW, F.adaptive_max_pool2d: WINDOW,
    F.dropout: lambda f, x, y: f(x, 0.5, False), F.dropout2d: lambda f, x, y: f(x, 0.5, False),
    F.interpolate: lambda f, x, y: f(x, scale_factor=2.0),
    F.pad: lambda f, x, y: f(x, (1, 0, 0, 2, 1, 2)),
    torch.mean: lambda f, x, y: f(x, (2, 3), keepdim=True),
    ("method", "mean"): lambda f, x, y: x.mean((2, 3), keepdim=True),
    operator.add: BOTH, operator.iadd: BOTH, torch.add: BOTH,
    ("method", "add"): BOTH_BY_NAME, ("method", "add_"): BOTH_BY_NAME,
    operator.mul: BY_TWO, operator.imul: BY_TWO, torch.mul: BY_TWO,
    ("method", "mul"): lambda name, x, y: x.mul(2.0), ("method", "mul_"): lambda name, x, y: x.mul_(2.0),
    operator.truediv: BY_TWO, operator.itruediv: BY_TWO, torch.div: BY_TWO,
    ("method", "div"): lambda name, x, y: x.div(2.0), ("method", "div_"): lambda name, x, y: x.div_(2.0),
    torch.cat: lambda f, x, y: f([x, y], 1), torch.concat: lambda f, x, y: f((x, y), dim=1),
    operator.getitem: lambda f, x, y: x[:, 1:5],
    torch.chunk: lambda f, x, y: f(x, 2, 1)[1],
    torch.split: lambda f, x, y: f(x, [2, 4], 1)[1],
    ("method", "chunk"): lambda f, x, y: x.chunk(2, 1)[1],
    ("method", "split"): lambda f, x, y: x.split(4, 1)[0],
    getattr: lambda f, x, y: F.interpolate(x, size=(x.shape[2], x.shape[3])),
    ("method", "size"): lambda f, x, y: F.interpolate(x, size=(x.size(2), x.size(3))),
}  # fmt: skip
FLATTENING: dict[object, Callable[..., Any]] = {
    torch.flatten: lambda f, x: f(x, 1),
    torch.squeeze: lambda f, x: f(x.mean((2, 3), keepdim=True), (2, 3)),
    ("method", "squeeze"): lambda f, x: x.mean((2, 3), keepdim=True).squeeze((2, 3)),
    torch.reshape: lambda f, x: f(x, (x.size(0), -1)),
    ("method", "flatten"): lambda f, x: x.flatten(1),
    ("method", "dim"): lambda f, x: x.flatten(x.dim() - 3),
    ("method", "numel"): lambda f, x: x.reshape(x.size(0), x.numel() // x.size(0)),
    ("method", "view"): lambda f, x: x.view(x.size(0), -1),
    ("method", "reshape"): lambda f, x: x.reshape(x.shape[0], -1),
}  # fmt: skip
MODULES: dict[type, Callable[[], nn.Module]] = {
    nn.Conv2d: lambda: nn.Conv2d(6, 5, 3), nn.PReLU: nn.PReLU, nn.Hardtanh: nn.Hardtanh,
    nn.BatchNorm2d: lambda: nn.BatchNorm2d(6),
    nn.InstanceNorm2d: lambda: nn.InstanceNorm2d(6, affine=True),
    nn.MaxPool2d: lambda: nn.MaxPool2d(2), nn.AvgPool2d: lambda: nn.AvgPool2d(3, 2, 1),
    nn.AdaptiveAvgPool2d: lambda: nn.AdaptiveAvgPool2d(3),
    nn.AdaptiveMaxPool2d: lambda: nn.AdaptiveMaxPool2d(3),
    nn.Upsample: lambda: nn.Upsample(scale_factor=2), nn.ZeroPad2d: lambda: nn.ZeroPad2d(1),
}  # fmt: skip
# Those on rows: one half of a zero can go into the bias of a linear layer alone.
ON_ROWS: dict[object, Callable[..., Any]] = {
    nn.Linear: lambda x: x, nn.BatchNorm1d: nn.BatchNorm1d(8).double().eval(),
    nn.Sigmoid: nn.Sigmoid(), torch.sigmoid: torch.sigmoid, F.sigmoid: F.sigmoid,
    ("method", "sigmoid"): lambda x: x.sigmoid(),
}  # fmt: skip


class Between(nn.Module):
    """Two convolutions, a call of what they put out, and a layer that reads it."""

    def __init__(self, call: Callable[[Tensor, Tensor], Tensor], module: nn.Module | None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(2, 6, 3, padding=1)
        self.call, self.module = call, module
        with torch.no_grad():
            channels = self._called(torch.zeros(1, 2, 8, 8)).shape[1]
        self.after, self.head = nn.Conv2d(channels, 7, 2), nn.Linear(7, 4)

    def _called(self, images: Tensor) -> Tensor:
        x, y = torch.tanh(self.a(images)), torch.relu(self.b(images))
        return self.call(x, y) if self.module is None else self.module(x)

    def forward(self, images: Tensor) -> Tensor:
        x = torch.relu(self.after(F.pad(self._called(images), (1, 1, 1, 1))))
        made: Tensor = self.head(x.mean((2, 3)))
        return made


class Rows(nn.Module):
    """A convolution, flattened by a call, and two linear layers with a call between them."""

    def __init__(
        self, flatten: Callable[[Tensor], Tensor], call: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.a, self.flatten, self.call = nn.Conv2d(2, 6, 3, padding=1), flatten, call
        self.b = nn.Linear(flatten(torch.zeros(2, 6, 8, 8)).shape[1], 8)
        self.head = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        x = self.b(self.flatten(torch.relu(self.a(images))))
        made: Tensor = self.head(self.call(x))
        return made


def network_for(handled: object) -> nn.Module:
    torch.manual_seed(0)
    if handled is nn.Flatten:
        return Rows(nn.Flatten(), torch.relu)
    if handled == STOCHASTIC_DEPTH:
        return Between(lambda x, y: x, StochasticDepth(0.5, "row"))
    if handled in FLATTENING:
        return Rows(lambda x: FLATTENING[handled](handled, x), torch.relu)
    if handled in ON_ROWS:
        return Rows(lambda x: x.flatten(1), ON_ROWS[handled])
    if isinstance(handled, type):
        return Between(lambda x, y: x, MODULES.get(handled, handled)())
    name = handled[1] if isinstance(handled, tuple) else handled
    call = CALLS.get(handled, METHOD if isinstance(handled, tuple) else PLAIN)
    return Between(lambda x, y: call(name, x, y), None)


def check_cut(model: nn.Module, layout: Layout) -> None:
    """Hold the network that is cut under random masks against the masked one, in float64."""
    for seed in range(3):
        masks = drawn(layout, seed, keep=0.5)
        masked = masked_copy(model, layout, masks)
        smaller = compact(masked, layout, masks)
        x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
        with torch.no_grad():
            assert float((smaller(x) - masked(x)).abs().max()) <= 1e-12
        sizes = [sum(p.numel() for p in m.parameters()) for m in (smaller, model)]
        assert sizes[0] < sizes[1]


def name_of(handled: object) -> str:
    return str(getattr(handled, "__name__", handled))


@pytest.mark.parametrize("handled", list(base._TABLE), ids=name_of)
def test_every_call_that_is_handled_is_followed_and_cut_exactly(handled: object) -> None:
    model = lively(network_for(handled))
    layout = layout_of(model, torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    kinds = {type(operation) for operation in layout.operations.values()}
    assert base._TABLE[handled] in kinds
    assert "a" not in layout.refused
    check_cut(model, layout)


REVERSED = """
from dataclasses import replace
import torch
from bench.graph import channels as flows
from bench.graph.coupled_groups import Signal
from bench.graph.operations.base import Operation
from bench.graph.rewriting import Piece

class Reverse(Operation):
    'Channels in reverse order.'
    functions = (torch.flip,)

    def follow(self, given, walk):
        signal = self.only(given)
        self.expect(self.node.args[1:] == ((1,),))
        walk.groups.note(signal)
        width = flows.width(signal.channels)
        single = [flows.cut(signal.channels, i, i + 1) for i in reversed(range(width))]
        turned = sum(single, ())
        return Signal(turned, self.node.name, turned)

    def rewrite(self, smaller):
        given = smaller.piece_into(self.node)
        made = None if given.node is None else smaller.call(torch.flip, given.node, (1,))
        kept = smaller.keep(self.node, made)
        return Piece(kept, given.lives.flip(0), given.constant.flip(0))
"""


def test_a_made_up_operation_is_one_class_in_a_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "_TABLE", dict(base._TABLE))
    torch.manual_seed(0)
    model = Between(lambda x, y: torch.flip(x, (1,)), None).double().eval()
    example = torch.zeros(1, 2, 8, 8, dtype=torch.float64)
    assert layout_of(model, example).refused["a"] == (
        "'flip' is not known to keep a zero channel at zero"
    )
    (tmp_path / "reverse.py").write_text(REVERSED)
    spec = importlib.util.spec_from_file_location("reverse", tmp_path / "reverse.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "reverse", module)
    spec.loader.exec_module(module)
    layout = layout_of(model, example)
    assert layout.refused.keys() == {"head"}
    check_cut(model, layout)


def test_two_classes_that_handle_the_same_are_refused() -> None:
    with pytest.raises(TypeError, match="is handled by Activation and by Second"):

        class Second(Operation):
            functions = (torch.relu,)


def test_subclasses_of_a_module_are_handled_like_it() -> None:
    class MyReLU(nn.ReLU):
        """Of a library that stands in torch.nn's place."""

    MyReLU.__module__ = "torch.nn.modules.activation"
    model = Between(lambda x, y: x, MyReLU()).double().eval()
    layout = layout_of(model, torch.zeros(1, 2, 8, 8, dtype=torch.float64))
    assert "a" not in layout.refused
    check_cut(model, layout)
