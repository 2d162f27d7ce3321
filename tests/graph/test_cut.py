"""A compact network computes what the masked one computes, and has the size that was counted."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch_pruning as tp
from branching_networks import BRANCHING, Concatenated, OptionA, Residual, conv
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from removal_checks import (
    both,
    drawn,
    elements,
    error,
    lively,
    masked_copy,
    multiply_adds,
    silenced_copy,
)
from torch import Tensor, nn
from torch.nn import functional as F

from bench.choices import Coupling
from bench.graph.count import count, count_effective
from bench.graph.cut import compact
from bench.graph.rewriting import CannotCut
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.models.resnet import resnet_18
from bench.models.vgg import vgg_16_bn
from bench.plan.plugins import shipped
from bench.plan.registry import Registry
from bench.training.network import about

COUPLINGS: list[Coupling] = ["tied", "branch"]
EXACT = 1e-12
steady = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # shrinking a network takes minutes
)  # fmt: skip

# -- networks drawn at random ----------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One block of a drawn network."""

    kind: str
    width: int
    kernel: int
    stride: int
    norm: bool
    bias: bool
    padding: bool
    pool: str
    act: str


ACTS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu, "leaky": F.leaky_relu, "tanh": torch.tanh, "silu": F.silu, "none": lambda x: x,
}  # fmt: skip


class Unit(nn.Module):
    """Convolution, normalisation or none, activation."""

    def __init__(self, inputs: int, outputs: int, step: Step, **changed: Any) -> None:
        super().__init__()
        kernel = changed.get("kernel", step.kernel)
        same = changed.get("same", False) or step.padding
        stride = changed.get("stride", 1)
        groups = changed.get("groups", 1)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if same else 0,
                              bias=step.bias, groups=groups)  # fmt: skip
        self.norm = nn.BatchNorm2d(outputs) if step.norm else nn.Identity()
        self.act = ACTS[changed.get("act", step.act)]

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Block(nn.Module):
    def __init__(self, inputs: int, step: Step) -> None:
        super().__init__()
        self.kind, self.pool, width = step.kind, step.pool, step.width
        self.act = ACTS[step.act]
        self.outputs = width
        if step.kind == "chain":
            self.a = Unit(inputs, width, step, stride=step.stride)
        elif step.kind == "residual":
            self.outputs = inputs
            self.a = Unit(inputs, width, step, same=True)
            self.b = Unit(width, inputs, step, same=True, act="none")
        elif step.kind == "project":
            self.a = Unit(inputs, width + 1, step, same=True, stride=step.stride)
            self.b = Unit(width + 1, width, step, same=True, act="none")
            self.short = Unit(inputs, width, step, same=True, kernel=1, stride=step.stride,
                              act="none")  # fmt: skip
        elif step.kind == "cat":
            self.a, self.b = Unit(inputs, width, step, same=True), Unit(inputs, 2, step, same=True)
            self.outputs = width + 2 + inputs
        elif step.kind == "depthwise":
            self.a = Unit(inputs, width, step, kernel=1)
            self.b = Unit(width, width, step, same=True, groups=width, stride=step.stride)
        elif step.kind == "split":
            self.a = Unit(inputs, width + 2, step, same=True)
            self.b = Unit(width, 3, step, same=True)
            self.c = Unit(2, 3, step, same=True)
            self.outputs, self.sizes = 3, [width, 2]

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "chain":
            x = self.a(x)
        elif self.kind == "residual":
            x = self.act(self.b(self.a(x)) + x)
        elif self.kind == "project":
            x = self.act(self.b(self.a(x)) + self.short(x))
        elif self.kind == "cat":
            x = torch.cat([self.a(x), x, self.b(x)], 1)
        elif self.kind == "depthwise":
            x = self.b(self.a(x))
        else:
            first, second = torch.split(self.a(x), self.sizes, dim=1)
            x = self.b(first) + self.c(second)
        if self.pool == "max":
            x = F.max_pool2d(x, 2, ceil_mode=True)
        elif self.pool == "avg":
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        elif self.pool == "padded":
            x = F.avg_pool2d(x, 3, 2, 1)
        return x


class Drawn(nn.Module):
    def __init__(self, channels: int, stem: Step, steps: list[Step], head: str, side: int) -> None:
        super().__init__()
        self.stem = Unit(channels, stem.width, stem, same=True)
        blocks, width = [], stem.width
        for step in steps:
            blocks.append(Block(width, step))
            width = blocks[-1].outputs
        self.blocks = nn.Sequential(*blocks)
        self.kind = head
        with torch.no_grad():
            maps = self.blocks.eval()(self.stem.eval()(torch.zeros(1, channels, side, side)))
        features = width if head == "global" else maps[0].numel()
        hidden = 7 if head == "hidden" else features
        self.fc = nn.Linear(features, hidden) if head == "hidden" else nn.Identity()
        self.head = nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1) if self.kind == "global" else x.flatten(1)
        return self.head(torch.tanh(self.fc(x)))


def steps_of(kinds: list[str], pools: list[str]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step, kind=st.sampled_from(kinds), width=st.integers(1, 6),
        kernel=st.sampled_from([1, 3, 5]), stride=st.sampled_from([1, 2]), norm=st.booleans(),
        bias=st.booleans(), padding=st.booleans(), pool=st.sampled_from(pools),
        act=st.sampled_from(list(ACTS)),
    )  # fmt: skip


def networks(kinds: list[str], pools: list[str]) -> st.SearchStrategy[tuple[nn.Module, Tensor]]:
    def make(
        channels: int, stem: Step, steps: list[Step], head: str, seed: int
    ) -> tuple[nn.Module, Tensor] | None:
        torch.manual_seed(seed)
        side = 9
        try:
            model = Drawn(channels, stem, steps, head, side)
        except RuntimeError:  # a kernel larger than what pooling left
            return None
        return lively(model, seed), torch.randn(3, channels, side, side, dtype=torch.float64)

    drawn_ones = st.builds(
        make, st.integers(1, 3), steps_of(["chain"], ["none"]),
        st.lists(steps_of(kinds, pools), min_size=1, max_size=3),
        st.sampled_from(["global", "flatten", "hidden"]), st.integers(0, 10**6),
    )  # fmt: skip
    return drawn_ones.filter(lambda made: made is not None)  # type: ignore[return-value]


KINDS = ["chain", "residual", "project", "cat", "depthwise", "split"]
POOLS = ["none", "max", "avg", "padded"]


def check_sizes(smaller: nn.Module, layout: Layout, masks: dict[str, Tensor], x: Tensor) -> None:
    account = count_effective(layout, masks)
    assert elements(smaller) == account.params_kept
    assert multiply_adds(smaller, x) == account.macs_kept


def check_drawn_networks_are_exact_and_as_large_as_counted(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int, keep: float
) -> None:
    model, x = made
    layout = layout_of(model, x[:1], coupling)
    masks = drawn(layout, seed, keep)
    masked = masked_copy(model, layout, masks)
    whole = all(
        bool(part.any())
        for number, block in enumerate(model.blocks)
        if block.kind == "split"
        for part in masks[f"blocks.{number}.a.conv"].split(block.sizes)
    )
    try:
        smaller = compact(masked, layout, masks)
    except CannotCut:  # one side of a split without any unit: see the test of refusals
        assume(whole)
        raise
    assert error(smaller, masked, x) <= EXACT
    if whole:  # else what that side emits may need a bias: see the test of folded constants
        check_sizes(smaller, layout, masks, x)


@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=25)
@given(networks(KINDS, POOLS), st.integers(0, 10**6), st.sampled_from([0.15, 0.5, 0.85]))
def test_drawn_networks_are_exact_and_as_large_as_counted(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int, keep: float
) -> None:
    check_drawn_networks_are_exact_and_as_large_as_counted(coupling, made, seed, keep)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=250)
@given(networks(KINDS, POOLS), st.integers(0, 10**6), st.sampled_from([0.15, 0.5, 0.85]))
def test_many_drawn_networks_are_exact_and_as_large_as_counted(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int, keep: float
) -> None:
    check_drawn_networks_are_exact_and_as_large_as_counted(coupling, made, seed, keep)


def check_branches_without_any_inner_unit_disappear(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    model, x = made
    layout = layout_of(model, x[:1], coupling)
    masks = drawn(layout, seed, inputs=False)
    inner = [s.name for s in layout.sites if s.name.endswith(".a.conv")]
    assert inner
    for name in inner:
        masks[name] = torch.zeros_like(masks[name])
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= EXACT
    if coupling == "tied":
        check_sizes(smaller, layout, masks, x)
    else:  # where a whole channel is what a dead branch emits, its readers need a bias
        assert elements(smaller) >= count_effective(layout, masks).params_kept
    left = dict(smaller.named_modules())
    assert not set(inner) & left.keys()
    assert not {name.replace(".a.conv", ".b.conv") for name in inner} & left.keys()


@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=6)
@given(networks(["residual", "project"], POOLS[:3]), st.integers(0, 10**6))
def test_branches_without_any_inner_unit_disappear(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    check_branches_without_any_inner_unit_disappear(coupling, made, seed)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=60)
@given(networks(["residual", "project"], POOLS[:3]), st.integers(0, 10**6))
def test_many_branches_without_any_inner_unit_disappear(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    check_branches_without_any_inner_unit_disappear(coupling, made, seed)


def check_drawn_networks_with_units_dead_in_their_convolution_only(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    model, x = made
    layout = layout_of(model, x[:1], coupling)
    masks = drawn(layout, seed, inputs=False)
    silenced = silenced_copy(model, layout, masks)
    assert both(silenced, layout, masks, x) <= EXACT


@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=6)
@given(networks(["chain", "residual", "project"], POOLS[:3]), st.integers(0, 10**6))
def test_drawn_networks_with_units_dead_in_their_convolution_only(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    check_drawn_networks_with_units_dead_in_their_convolution_only(coupling, made, seed)


@pytest.mark.slow
@pytest.mark.parametrize("coupling", COUPLINGS)
@settings(steady, max_examples=60)
@given(networks(["chain", "residual", "project"], POOLS[:3]), st.integers(0, 10**6))
def test_many_drawn_networks_with_units_dead_in_their_convolution_only(
    coupling: Coupling, made: tuple[nn.Module, Tensor], seed: int
) -> None:
    check_drawn_networks_with_units_dead_in_their_convolution_only(coupling, made, seed)


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("build", BRANCHING)
def test_small_networks_are_exact_and_as_large_as_counted(
    build: Callable[[], nn.Module], coupling: Coupling
) -> None:
    torch.manual_seed(1)
    model = lively(build())
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], coupling)
    for seed in range(8):
        masks = drawn(layout, seed, keep=(0.2, 0.6)[seed % 2])
        masked = masked_copy(model, layout, masks)
        smaller = compact(masked, layout, masks)
        assert error(smaller, masked, x) <= EXACT
        check_sizes(smaller, layout, masks, x)


def test_no_masks_give_the_network_itself() -> None:
    for build in BRANCHING:
        model = lively(build())
        x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
        smaller = compact(model, layout_of(model, x[:1]), {})
        assert error(smaller, model, x) == 0
        ours, theirs = smaller.state_dict(), model.state_dict()
        assert {k for k in ours if not k.startswith("_constant_")} == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in theirs)


# -- what stays as it was --------------------------------------------------------------------------


def fingerprint(model: nn.Module) -> dict[str, Any]:
    return {
        "state": {k: v.clone() for k, v in model.state_dict().items()},
        "format": {
            k: v.is_contiguous(memory_format=torch.channels_last)
            for k, v in model.state_dict().items()
            if v.dim() == 4
        },
        "training": [m.training for m in model.modules()],
        "learns": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [list(m._forward_hooks) + list(m._forward_pre_hooks) for m in model.modules()],
        "tensors": [id(p) for p in (*model.parameters(), *model.buffers())],
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("build", BRANCHING)
def test_the_original_and_the_random_state_are_left_alone(
    build: Callable[[], nn.Module], training: bool
) -> None:
    torch.manual_seed(0)
    model = lively(build()).to(memory_format=torch.channels_last)
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    model(x).sum().backward()
    layout = layout_of(model, x[:1], "branch")
    masks = drawn(layout, 3)
    masked = masked_copy(model, layout, masks)
    masked.train(training)
    next(iter(masked.children())).train(not training)
    for number, parameter in enumerate(masked.parameters()):
        parameter.requires_grad_(number % 3 != 0)
    masked.register_forward_hook(lambda module, args, out: None)
    before, state = fingerprint(masked), torch.get_rng_state()
    smaller = compact(masked, layout, masks)
    assert same(before, fingerprint(masked))
    assert torch.equal(state, torch.get_rng_state())
    assert smaller.training == training
    flags = {n: m.training for n, m in masked.named_modules()}
    assert all(m.training == flags[n] for n, m in smaller.named_modules() if n in flags)
    learns = {n: p.requires_grad for n, p in masked.named_parameters()}
    assert {n: p.requires_grad for n, p in smaller.named_parameters()}.items() <= learns.items()
    wide = [p for p in smaller.parameters() if p.dim() == 4]
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    pointers = {t.data_ptr() for t in (*masked.parameters(), *masked.buffers())}
    mine = {t.data_ptr() for t in (*smaller.parameters(), *smaller.buffers()) if t.numel()}
    assert not pointers & mine
    assert error(smaller.eval(), masked.eval(), x) <= EXACT


def test_no_hook_of_the_original_fires_in_the_smaller_network() -> None:
    model = lively(Residual())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    calls: list[str] = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda m, a, o, name=name: calls.append(name))
    masks = drawn(layout, 0)
    masked = masked_copy(model, layout, masks)
    calls.clear()
    smaller = compact(masked, layout, masks)
    with torch.no_grad():
        smaller(x)
    assert calls == []


def test_a_smaller_network_learns_and_can_be_copied() -> None:
    torch.manual_seed(0)
    model = lively(Residual())
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], "branch")
    masks = drawn(layout, 0)
    smaller = compact(masked_copy(model, layout, masks), layout, masks).train()
    smaller(x).square().sum().backward()
    assert all(p.grad is not None for p in smaller.parameters())
    twin = copy.deepcopy(smaller.eval())
    assert error(twin, smaller, x) == 0


def test_a_network_that_was_not_traced_is_refused_with_the_reason() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.a(x) if x.sum() > 0 else -self.a(x)

    model = Branching()
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    with pytest.raises(CannotCut, match="cannot be traced"):
        compact(model, layout, {})


class Emitting(nn.Module):
    """A branch of three padded convolutions beside the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b, self.c = conv(1, 4), conv(4, 3), conv(3, 3), conv(3, 4)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = x + self.c(F.relu(self.b(F.relu(self.a(x)))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_network_that_its_input_no_longer_reaches_is_as_large_as_counted() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.short = conv(1, 3), conv(3, 2), conv(1, 2, 1)
            self.head = nn.Linear(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.b(F.relu(self.a(x))) + self.short(x)
            return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    model = lively(Cut())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], "branch")
    masks = {"a.0": torch.zeros(3, dtype=torch.bool), "short.0": torch.tensor([True, False]),
             "input:head": torch.tensor([False, True])}  # fmt: skip
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= EXACT
    check_sizes(smaller, layout, masks, x)


def test_constants_folded_into_a_layer_without_a_bias_are_counted() -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.a, self.b = conv(1, 2), conv(2, 3), conv(3, 2)
            self.last, self.head = nn.Conv2d(2, 3, 1, bias=False), nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            x = self.last(x + self.b(F.relu(self.a(x))))
            return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))

    model = lively(Folding())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], "branch")
    masks = {"stem.0": torch.tensor([True, False]), "a.0": torch.zeros(3, dtype=torch.bool)}
    masked = masked_copy(model, layout, masks)
    smaller = compact(masked, layout, masks)
    assert error(smaller, masked, x) <= EXACT
    check_sizes(smaller, layout, masks, x)


def test_what_depends_on_the_distance_to_the_border_is_refused_not_lost() -> None:
    model = lively(Emitting())
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    masks = {"a.0": torch.zeros(3, dtype=torch.bool)}
    masked = masked_copy(model, layout, masks)
    with pytest.raises(CannotCut, match="not the same everywhere"):
        compact(masked, layout, masks)


# -- units dead in their convolution only ----------------------------------------------------------


class Chain(nn.Module):
    """Padded and unpadded convolutions, pooling, a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(1, 6), conv(6, 7)
        self.c = nn.Conv2d(7, 5, 3)
        self.last, self.head = nn.Linear(5 * 4, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.b(F.relu(self.a(x)))), 2)
        return self.head(F.relu(self.last(F.relu(self.c(x)).flatten(1))))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("build", [Chain, Residual, OptionA, Concatenated])
def test_what_a_normalisation_goes_on_emitting_is_kept(
    build: Callable[[], nn.Module], coupling: Coupling
) -> None:
    torch.manual_seed(2)
    model = lively(build())
    x = torch.randn(8, 1, 8, 8, dtype=torch.float64)
    layout = layout_of(model, x[:1], coupling)
    for seed in range(6):
        masks = drawn(layout, seed, inputs=False)
        silenced = silenced_copy(model, layout, masks)
        assert both(silenced, layout, masks, x) <= EXACT
        # The two kinds of masks are different networks: else this tests nothing.
        assert error(masked_copy(model, layout, masks), silenced, x) > 1e-3


def naive(model: nn.Module, layout: Layout, masks: dict[str, Tensor], x: Tensor) -> nn.Module:
    """Slice channels with torch-pruning, forget what they emitted."""
    model = copy.deepcopy(model)
    graph = tp.DependencyGraph().build_dependency(model, (x,))
    for site in layout.sites:
        gone = (~masks[site.name]).nonzero().flatten().tolist()
        root = model.get_submodule(site.module)
        prune = (
            tp.prune_linear_out_channels
            if isinstance(root, nn.Linear)
            else tp.prune_conv_out_channels
        )
        if gone:
            graph.get_pruning_group(root, prune, idxs=gone).prune()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("build", [vgg_16_bn, resnet_18])
def test_dropping_what_is_emitted_is_wrong_and_keeping_it_is_exact(build: Any) -> None:
    torch.manual_seed(0)
    model = lively(build(10, (3, 32, 32)))
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    layout = layout_of(model, x[:1])
    masks = {k: v for k, v in drawn(layout, 0).items() if not k.startswith("input:")}
    silenced = silenced_copy(model, layout, masks)
    assert both(silenced, layout, masks, x) <= EXACT
    smaller = naive(silenced, _without_inputs(layout), masks, x)
    with torch.no_grad():
        expected, cut = silenced(x), smaller(x)
    relative = float((cut - expected).abs().max() / expected.abs().max())
    assert relative > 1e-2


def _without_inputs(layout: Layout) -> Layout:
    sites = tuple(s for s in layout.sites if not s.is_input)
    return Layout(**{**vars(layout), "sites": sites})


# -- every shipped network -------------------------------------------------------------------------

BIG = {"alexnet", "alexnet-tflearn", "resnet-110", "resnet-110-a", "resnet-56", "resnet-56-a",
       "dropnet-resnet-18", "dropnet-vgg-19", "mobilenet-v2", "resnet-18", "resnet-34", "resnet-50",
       "resnet-101", "vgg-16-bn", "vgg-19-bn", "vgg-16", "squeezenet", "resnet-32", "resnet-32-a",
       "conv-128-128-256-256", "conv-128-128-128-128", "dropneuron-convnet"}  # fmt: skip
SHIPPED = [
    pytest.param(e.name, marks=[pytest.mark.slow] if e.name in BIG else [])
    for e in shipped("models")
]


# Pooled to one size before they are flattened: small pictures do as well as large ones.
HUGE = {"alexnet", "alexnet-tflearn", "vgg-16"}  # one draw of each: more than half of the time
HAVE_SUMS = ("resnet", "dropnet-resnet", "mobilenet")  # layers are added into one stream
ANY_SIDE = {"alexnet", "mobilenet-v2", "squeezenet", "vgg-16"}


def shipped_network(name: str, classes: int = 10) -> tuple[nn.Module, int]:
    build = Registry().model(name)
    side = 64 if name in ANY_SIDE else about(build).input_size or 32
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return build(classes, (3, side, side)), side


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_networks_are_exact_and_as_large_as_counted(name: str) -> None:
    model, side = shipped_network(name)
    model = lively(model)
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    seen: list[Layout] = []
    for coupling in COUPLINGS:
        layout = layout_of(model, x[:1], coupling)
        if replace(layout, coupling="tied") in seen:  # nothing is added: all couplings are one
            continue
        seen.append(replace(layout, coupling="tied"))
        # What ends in a sigmoid is no unit; its inputs can be left out all the same.
        assert [s for s in layout.sites if not s.is_input or name == "dropneuron-autoencoder"]
        if coupling == "tied":
            assert count(layout, {}).macs_dense == multiply_adds(model, x)
        for seed in range(1 if name in HUGE else 5):
            masks = drawn(layout, seed)
            masked = masked_copy(model, layout, masks)
            smaller = compact(masked, layout, masks)
            assert error(smaller, masked, x) <= EXACT
            check_sizes(smaller, layout, masks, x)
    has_sums = len(seen) > 1
    assert has_sums == name.startswith(HAVE_SUMS)


@pytest.mark.slow
def test_mobilenet_v2_has_300_million_multiply_adds() -> None:
    build = Registry().model("mobilenet-v2")
    model = build(1000, (3, 224, 224)).eval()
    x = torch.zeros(1, 3, 224, 224)
    macs = count(layout_of(model, x), {}).macs_dense
    assert macs == multiply_adds(model, x)
    assert round(macs / 1e6, 1) == 300.8
