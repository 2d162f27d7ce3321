"""Counted sizes against networks that are really smaller, and masked outputs against theirs."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import product

import pytest
import torch
from small_networks import randomise_norms, small_conv, small_mlp
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import bench.models.dropnet
import bench.models.lenet
from bench.graph.count import count, count_effective
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.pruning.gates import Gates
from bench.pruning.hard_mask import apply_hard
from bench.pruning.masks import Masks
from bench.seeds import generator
from bench.training.network import About, about

Build = Callable[[], nn.Module]


def lenet() -> nn.Module:
    """Convolutions without normalisation, flattened into two linear layers."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 4, 3, padding=1), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(4, 6, 3, padding=1, bias=False), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(), fc1=nn.Linear(24, 10), relu3=nn.ReLU(), fc2=nn.Linear(10, 4),
        )
    )  # fmt: skip


def norm_after_relu() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 5, 3), relu1=nn.ReLU(), bn1=nn.BatchNorm2d(5),
            conv2=nn.Conv2d(5, 7, 3), relu2=nn.ReLU(), bn2=nn.BatchNorm2d(7),
            pool=nn.AvgPool2d(2), flatten=nn.Flatten(), fc1=nn.Linear(28, 4),
        )
    )  # fmt: skip


def norm_on_vectors() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(), fc1=nn.Linear(64, 9), bn1=nn.BatchNorm1d(9), relu1=nn.ReLU(),
            fc2=nn.Linear(9, 4),
        )
    )  # fmt: skip


NETWORKS: list[Build] = [small_mlp, small_conv, lenet, norm_after_relu, norm_on_vectors]


class Pick(nn.Module):
    """Hands on the chosen columns of vectors."""

    def __init__(self, columns: Tensor) -> None:
        super().__init__()
        self.columns = columns.nonzero().flatten()

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.columns]


def ones_where_missing(masks: Mapping[str, Tensor], name: str, size: int) -> Tensor:
    return masks.get(name, torch.ones(size, dtype=torch.bool))


def smaller(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Sequential:
    """Build the network that is left when the dropped units are cut out of it.

    Walks the layers in order with nothing but their own sizes: no layout, no graph.
    """
    layers: list[nn.Module] = []
    alive = torch.ones(1, dtype=torch.bool)  # of the features that flow between two layers
    last = weighted(model)[-1][0]
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            outputs, inputs = layer.weight.shape[:2]
            rows = ones_where_missing(masks, name, outputs)
            rows = rows if name != last else torch.ones(outputs, dtype=torch.bool)
            columns = alive.repeat_interleave(inputs // len(alive))
            if isinstance(layer, nn.Linear):
                wanted = columns & ones_where_missing(masks, f"input:{name}", inputs)
                layers.append(Pick(wanted[columns]))
                columns = wanted
            layers.append(sliced(layer, rows, columns))
            alive = rows
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layers.append(sliced_norm(layer, alive))
        else:
            layers.append(deepcopy(layer))
    return nn.Sequential(*layers).to(next(model.parameters()).dtype).train(model.training)


def sliced(layer: nn.Conv2d | nn.Linear, rows: Tensor, columns: Tensor) -> nn.Module:
    n_out, n_in, has_bias = int(rows.sum()), max(1, int(columns.sum())), layer.bias is not None
    thin: nn.Conv2d | nn.Linear
    if isinstance(layer, nn.Conv2d):
        thin = nn.Conv2d(n_in, n_out, layer.kernel_size, layer.stride, layer.padding, bias=has_bias)
    else:
        thin = nn.Linear(n_in, n_out, bias=has_bias)
    thin.weight.data = layer.weight.data[rows][:, columns].clone()
    if has_bias:
        thin.bias.data = layer.bias.data[rows].clone()
    return thin


def sliced_norm(norm: nn.BatchNorm1d | nn.BatchNorm2d, alive: Tensor) -> nn.Module:
    thin = type(norm)(int(alive.sum()), affine=norm.affine)
    for name in ("weight", "bias", "running_mean", "running_var"):
        if getattr(norm, name) is not None:
            getattr(thin, name).data = getattr(norm, name).data[alive].clone()
    return thin


def elements(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model: nn.Module, x: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(x)
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def random_unit_masks(layout: Layout, seed: int) -> dict[str, Tensor]:
    """Drop each unit with a probability of its own per site; some sites stay whole."""
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for site in layout.sites:
        share = float(torch.rand((), generator=g)) * 0.9
        mask = torch.rand(site.size, generator=g) > share
        mask[int(torch.randint(site.size, (), generator=g))] = True
        if float(torch.rand((), generator=g)) < 0.8:
            masks[site.name] = mask
    return masks


def random_weight_masks(layout: Layout, seed: int, density: float) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return {n: torch.rand(s, generator=g) < density for n, s in layout.weights.items()}


def layout_for_8x8(model: nn.Module) -> Layout:
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    assert layout.sites, layout.why_no_sites
    return layout


# -- parameters ------------------------------------------------------------------------------


@pytest.mark.parametrize("build", NETWORKS)
def test_params_kept_is_the_size_of_the_network_that_is_left(build: Build) -> None:
    model = build()
    layout = layout_for_8x8(model)
    assert any(site.is_input for site in layout.sites)
    for seed in range(60):
        masks = random_unit_masks(layout, seed)
        left = count(layout, masks)
        thin = smaller(model, masks)
        assert left.params_dense == elements(model)
        assert left.params_kept == elements(thin)
        weights = [p for p in thin.parameters() if p.dim() > 1]
        assert left.weights_kept == sum(p.numel() for p in weights)


@pytest.mark.parametrize("build", NETWORKS)
def test_params_masked_is_what_zeroing_the_units_themselves_leaves(build: Build) -> None:
    model = build()
    layout = layout_for_8x8(model)
    for seed in range(20):
        masks = random_unit_masks(layout, seed)
        marked = deepcopy(model)
        for parameter in marked.parameters():
            parameter.data.fill_(1.0)
        norm = ""
        for name, layer in reversed(list(marked.named_children())):
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                norm = name
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if name in masks:
                    owned = [layer.weight, layer.bias]
                    if norm:
                        owned += [getattr(marked, norm).weight, getattr(marked, norm).bias]
                    for parameter in owned:
                        if parameter is not None:
                            parameter.data[~masks[name]] = 0.0
                if f"input:{name}" in masks:
                    layer.weight.data[:, ~masks[f"input:{name}"]] = 0.0
                norm = ""
        ones = sum(int(p.sum()) for p in marked.parameters())
        assert count(layout, masks).params_masked == ones


@pytest.mark.parametrize("density", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("build", [small_mlp, small_conv, lenet])
def test_weight_masks_take_nothing_but_their_weights(build: Build, density: float) -> None:
    model = build()
    layout = layout_for_8x8(model)
    masks = random_weight_masks(layout, 1, density)
    gone = sum(int((~mask).sum()) for mask in masks.values())
    left = count(layout, masks)
    assert left.params_masked == left.params_kept == elements(model) - gone


# -- effective parameters --------------------------------------------------------------------


class Wires:
    """A network as plain lists of what is alive: weights, units, inputs."""

    def __init__(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        layers = [m for _, m in weighted(model)]
        self.names = [n for n, _ in weighted(model)]
        self.has_bias = [m.bias is not None for m in layers]
        self.out: list[list[bool]] = []
        self.into: list[list[bool]] = []
        self.taps: list[list[list[int]]] = []  # kept weights between each output and input
        for name, layer in weighted(model):
            n_out, n_in = layer.weight.shape[:2]
            self.out.append(ones_where_missing(masks, name, n_out).tolist())
            self.into.append(ones_where_missing(masks, f"input:{name}", n_in).tolist())
            kept = masks.get(f"{name}.weight", torch.ones_like(layer.weight, dtype=torch.bool))
            self.taps.append(kept.reshape(n_out, n_in, -1).sum(2).tolist())

    def cut_weights(self, i: int) -> bool:
        """Cut the weights of layer i that have a dead end."""
        changed = False
        for o, c in product(range(len(self.out[i])), range(len(self.into[i]))):
            if self.taps[i][o][c] and not (self.out[i][o] and self.into[i][c]):
                self.taps[i][o][c], changed = 0, True
        return changed

    def bury_outputs(self, i: int) -> bool:
        """Bury the hidden units of layer i that nothing feeds."""
        changed = False
        for o in range(len(self.out[i])):
            if i + 1 < len(self.out) and self.out[i][o] and not any(self.taps[i][o]):
                self.out[i][o], changed = False, True
        return changed

    def bury_inputs(self, i: int) -> bool:
        """Bury the inputs of layer i that are fed by a dead unit or read by nothing."""
        changed = False
        fan = len(self.into[i]) // len(self.out[i - 1]) if i else 1
        for c in range(len(self.into[i])):
            is_fed = i == 0 or self.out[i - 1][c // fan]
            is_read = any(row[c] for row in self.taps[i])
            if self.into[i][c] and not (is_fed and is_read):
                self.into[i][c], changed = False, True
        for u in range(len(self.out[i - 1]) if i else 0):
            if self.out[i - 1][u] and not any(self.into[i][u * fan : (u + 1) * fan]):
                self.out[i - 1][u], changed = False, True
        return changed


def weighted(model: nn.Module) -> list[tuple[str, nn.Conv2d | nn.Linear]]:
    return [(n, m) for n, m in model.named_children() if isinstance(m, nn.Conv2d | nn.Linear)]


def effective_by_brute_force(model: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Count what is left once a whole round over all layers finds nothing more that is dead."""
    wires, norms = Wires(model, masks), norm_sizes(model)
    layers = range(len(wires.names))
    while any(
        [f(i) for i in layers for f in (wires.cut_weights, wires.bury_outputs, wires.bury_inputs)]
    ):
        pass
    total = 0
    for i in layers:
        total += sum(sum(row) for row in wires.taps[i])
        total += sum(wires.out[i]) * (int(wires.has_bias[i]) + norms.get(wires.names[i], 0))
    return total


def norm_sizes(model: nn.Module) -> dict[str, int]:
    """Normalisation parameters per unit, by the layer in front."""
    found, last = {}, ""
    for name, layer in model.named_children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            last = name
        elif isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            found[last] = 2
    return found


@pytest.mark.parametrize("build", NETWORKS)
def test_params_effective_is_the_fixed_point_of_burying_dead_units(build: Build) -> None:
    model = build()
    layout = layout_for_8x8(model)
    buried = 0
    for seed in range(24):
        density = [0.03, 0.08, 0.2, 0.6][seed % 4]
        masks = random_weight_masks(layout, seed, density)
        if seed % 3 == 0:
            masks |= random_unit_masks(layout, seed)
        found = count_effective(layout, masks).params_kept
        assert found == effective_by_brute_force(model, masks)
        buried += count(layout, masks).params_kept - found
    assert buried > 0  # else nothing was tested


def test_params_effective_follows_a_death_through_the_whole_network() -> None:
    model = small_mlp()
    layout = layout_for_8x8(model)
    only_path = {n: torch.zeros(s, dtype=torch.bool) for n, s in layout.weights.items()}
    only_path["fc1.weight"][3, 10] = True
    only_path["fc2.weight"][5, 3] = True
    only_path["fc3.weight"][2, 5] = True
    only_path["fc1.weight"][4, :] = True  # a unit that nothing reads
    only_path["fc3.weight"][:, 6] = True  # a unit that nothing feeds
    # Three weights, the biases of the two living hidden units and of the four outputs.
    assert count_effective(layout, only_path).params_kept == 3 + 2 + 4


def test_params_effective_equals_params_kept_where_only_units_are_dropped() -> None:
    model = small_conv()
    layout = layout_for_8x8(model)
    for seed in range(20):
        masks = random_unit_masks(layout, seed)
        masks.pop("input:fc1", None)
        assert count_effective(layout, masks).params_kept == elements(smaller(model, masks))


# -- multiply-adds ---------------------------------------------------------------------------


SHIPPED = [
    build
    for module in (bench.models.lenet, bench.models.dropnet)
    for build in vars(module).values()
    if isinstance(getattr(build, "about", None), About)
]


def test_every_shipped_network_is_in_this_test() -> None:
    assert len(SHIPPED) >= 10


@pytest.mark.parametrize("build", SHIPPED, ids=lambda build: build.__name__)
def test_multiply_adds_equal_torchs_flop_counter(build: Callable[..., nn.Module]) -> None:
    side = about(build).input_size or 28
    model = build(10, (1, side, side)).eval()
    x = torch.zeros(1, 1, side, side)
    layout = layout_of(model, x)
    assert layout.sites, layout.why_no_sites
    dense = count(layout, {})
    assert dense.macs_dense == dense.macs_kept == multiply_adds(model, x)
    for seed in range(3):
        masks = random_unit_masks(layout, seed)
        thin = smaller(model, masks)
        assert count(layout, masks).macs_kept == multiply_adds(thin, x)
        assert count(layout, masks).params_kept == elements(thin)


# -- what masked networks compute ------------------------------------------------------------


def masks_of(layout: Layout, values: Mapping[str, Tensor]) -> Masks:
    masks = Masks(layout, torch.device("cpu"), lambda purpose: generator(0, purpose))
    masks.load(values)
    return masks


@pytest.mark.parametrize("build", NETWORKS)
def test_zeroed_gated_and_cut_networks_compute_the_same(build: Build) -> None:
    g = torch.Generator().manual_seed(11)
    effect = 0.0
    for seed in range(20):
        torch.manual_seed(seed)
        model = build()
        layout = layout_for_8x8(model)
        randomise_norms(model, seed)
        randomise_vector_norms(model, seed)
        model.double().eval()
        x = torch.randn(8, 1, 8, 8, generator=g, dtype=torch.float64)
        masks = random_unit_masks(layout, seed)
        with torch.no_grad():
            cut = smaller(model, masks)(x)
            with Gates(model, layout) as gates:
                gates.set_masks(masks)
                gated = model(x)
            open_again = model(x)
            apply_hard(model, masks_of(layout, masks))
            zeroed = model(x)
        scale = max(1.0, float(cut.abs().max()))
        assert float((gated - cut).abs().max()) <= 1e-12 * scale
        assert float((zeroed - cut).abs().max()) <= 1e-12 * scale
        effect = max(effect, float((open_again - cut).abs().max()))
    assert effect > 0.1  # else the masks did nothing that could be compared


def randomise_vector_norms(model: nn.Module, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.running_mean, module.weight.data, module.bias.data):
                tensor.copy_(torch.randn(tensor.shape, generator=g))
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=g) + 0.5)


def test_a_normalisation_without_an_affine_never_lets_a_dropped_unit_through() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 3), bn1=nn.BatchNorm2d(6, affine=False), relu1=nn.ReLU(),
            flatten=nn.Flatten(), fc1=nn.Linear(216, 4),
        )
    )  # fmt: skip
    model.bn1.running_mean.fill_(-1.0)
    model.eval()
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    if "conv1" not in layout.units({s.name: torch.ones(s.size) for s in layout.sites}):
        assert "bn1" in layout.why_no_sites  # refusing it is as good
        return
    mask = torch.tensor([True, False, True, True, False, True])
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        cut = smaller(model, {"conv1": mask})(x)
        apply_hard(model, masks_of(layout, {"conv1": mask}))
        assert torch.allclose(model(x), cut, atol=1e-5)
