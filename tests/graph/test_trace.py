"""Units are found in a stranger's network, or it is said why there are none."""

import re
from collections.abc import Callable

import pytest
import torch
from small_networks import randomise_norms, small_conv, small_mlp
from torch import Tensor, nn
from torch.nn import functional as F

from bench.graph.channels import Flow, layers_of, of_layer, repeated
from bench.graph.layers import Layer
from bench.graph.structure import Layout
from bench.graph.trace import activations, layout_of

Flat = Callable[[Tensor], Tensor]
EXAMPLE = torch.zeros(1, 1, 8, 8)


class Functional(nn.Module):
    """A network as users write them: everything without weights is a function."""

    def __init__(self, flat: Flat = lambda x: x.flatten(1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 5, 3, padding=1)
        self.conv2 = nn.Conv2d(5, 7, 3, bias=False)
        self.fc1 = nn.Linear(28, 9)
        self.fc2 = nn.Linear(9, 4)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = self.flat(x)
        return self.fc2(torch.relu(self.fc1(x)))


class Normed(nn.Module):
    """Normalisation before the activation of one layer, and after that of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5)
        self.conv2, self.bn2 = nn.Conv2d(5, 6, 3), nn.BatchNorm2d(6)
        self.fc1 = nn.Linear(96, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(F.relu(self.conv2(x)))
        return self.fc1(x.view(x.size(0), -1))


class Nested(nn.Module):
    """Layers inside blocks; one ReLU module serves them all."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()
        self.features = nn.Sequential(nn.Conv2d(1, 3, 3), self.act, nn.Conv2d(3, 4, 3), self.act)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), 1)
        return self.head(torch.flatten(x, 1))


def sizes(layout: Layout) -> dict[str, int]:
    return {site.name: site.size for site in layout.sites}


def layer(layout: Layout, name: str) -> Layer:
    return next(la for la in layout.layers if la.name == name)


def norms(layout: Layout) -> dict[str, Flow]:
    return {norm.name: norm.channels for norm in layout.norms}


def hidden(layout: Layout) -> dict[str, int]:
    return {site.name: site.size for site in layout.sites if not site.is_input}


# -- what is found ---------------------------------------------------------------------------


def test_a_perceptron_has_its_pixels_and_hidden_layers_as_sites() -> None:
    layout = layout_of(small_mlp(), EXAMPLE)
    assert sizes(layout) == {"input:fc1": 64, "fc1": 16, "fc2": 12}
    assert [layers_of(la.inputs) for la in layout.layers] == [set(), {"fc1"}, {"fc2"}]
    assert [la.is_prunable_output for la in layout.layers] == [True, True, False]
    assert layout.why_no_sites == ""


def test_a_convolutional_network_has_filters_and_flattened_maps_as_sites() -> None:
    layout = layout_of(small_conv(), EXAMPLE)
    assert sizes(layout) == {"conv1": 6, "conv2": 8, "input:fc1": 32}
    assert layer(layout, "fc1").inputs == repeated(of_layer("conv2", 8), 4)
    assert norms(layout) == {"bn1": of_layer("conv1", 6), "bn2": of_layer("conv2", 8)}
    assert [la.positions for la in layout.layers] == [64, 16, 1]
    assert layout.weights == {
        "conv1.weight": (6, 1, 3, 3), "conv2.weight": (8, 6, 3, 3), "fc1.weight": (4, 32)
    }  # fmt: skip


@pytest.mark.parametrize(
    "flat",
    [
        lambda x: x.view(x.size(0), -1),
        lambda x: x.view(x.size()[0], -1),
        lambda x: x.view(x.shape[0], -1),
        lambda x: x.view(-1, 28),
        lambda x: x.reshape(x.shape[0], -1),
        lambda x: x.flatten(1),
        lambda x: x.flatten(start_dim=1),
        lambda x: torch.flatten(x, 1),
        nn.Flatten(),
    ],
    ids=["size(0)", "size()[0]", "shape[0]", "view(-1, n)", "reshape", "x.flatten",
         "x.flatten(start_dim)", "torch.flatten", "nn.Flatten"],
)  # fmt: skip
def test_a_functional_network_is_read_however_it_flattens(flat: Flat) -> None:
    layout = layout_of(Functional(flat), EXAMPLE)
    assert sizes(layout) == {"conv1": 5, "conv2": 7, "input:fc1": 28, "fc1": 9}
    assert layer(layout, "fc1").inputs == repeated(of_layer("conv2", 7), 4)


def test_a_normalisation_belongs_to_its_layer_before_and_after_the_activation() -> None:
    layout = layout_of(Normed(), EXAMPLE)
    assert sizes(layout) == {"conv1": 5, "conv2": 6, "input:fc1": 96}
    assert norms(layout) == {"bn1": of_layer("conv1", 5), "bn2": of_layer("conv2", 6)}
    # Gating conv1 would do nothing that gating its normalisation alone does not.
    assert layout.gates.keys() == {"bn1", "conv2", "bn2", "fc1"}


def test_layers_inside_blocks_are_found_and_one_relu_may_serve_many() -> None:
    layout = layout_of(Nested(), EXAMPLE)
    assert sizes(layout) == {"features.0": 3, "features.2": 4, "input:head": 4}


def test_looking_for_units_leaves_the_network_as_it_was() -> None:
    model = small_conv()
    randomise_norms(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    for training in (True, False):
        model.train(training)
        layout_of(model, torch.rand(1, 1, 8, 8))
        assert model.training is training
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


# -- what is refused -------------------------------------------------------------------------


class SharedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x.flatten(1)))
        return self.fc(F.relu(self.b(F.relu(self.b(x)))))


class SharedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(x)))
        return self.fc(F.relu(self.norm(self.b(x))).flatten(1))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2)
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.b(F.relu(self.a(x)))).flatten(1))


class DataDependent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x.flatten(1))
        return self.fc(x if x.sum() > 0 else -x)


class NotZeroPreserving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc = nn.Linear(64, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.sigmoid(self.a(x.flatten(1))))


class RowByRow(nn.Module):
    """Its linear layer reads positions, not channels: dropping a filter leaves its inputs alone."""

    def __init__(self, flat: Flat) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(1, 4, 3), nn.Linear(36, 6), nn.Linear(24, 4)
        self.flat = flat

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.flat(F.relu(self.a(x))))
        return self.fc(y.reshape(x.size(0), -1))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (SharedLayer(), r"'b'"),
        (SharedNorm(), r"'norm'"),
        (Grouped(), r"'b' is a grouped convolution"),
        (DataDependent(), r"cannot be traced"),
        (NotZeroPreserving(), r"sigmoid"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 4)), r"Sigmoid"),
        (RowByRow(lambda x: x.flatten(2)), r"flatten|'b'"),
        (RowByRow(lambda x: torch.flatten(x, 2)), r"flatten|'b'"),
        (RowByRow(nn.Flatten(2)), r"flat|'b'"),
        (RowByRow(lambda x: x.view(x.size(0), 4, -1)), r"view|'b'"),
        (RowByRow(lambda x: x.view(-1, 36)), r"view|'b'"),
    ],
    ids=["shared layer", "shared normalisation",
         "grouped convolution", "control flow", "sigmoid function", "sigmoid module",
         "x.flatten(2)", "torch.flatten(x, 2)", "nn.Flatten(2)", "view that keeps channels",
         "view that makes rows of channels"],
)  # fmt: skip
def test_a_network_whose_units_cannot_be_told_apart_says_why_and_keeps_its_weights(
    model: nn.Module, reason: str
) -> None:
    layout = layout_of(model, EXAMPLE)
    assert hidden(layout) == {}
    assert re.search(reason, layout.why_no_sites)
    assert "\n" not in layout.why_no_sites
    layers = (n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert set(layout.weights) == {f"{name}.weight" for name in layers}


# -- activations -----------------------------------------------------------------------------


def caught_by_hooks(model: nn.Module, x: Tensor, names: dict[str, str]) -> dict[str, Tensor]:
    """Run the network and catch the outputs of modules; `names` maps modules to sites."""
    caught: dict[str, Tensor] = {}

    def keep(site: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            caught[site] = output.detach().clone()

        return hook

    handles = [model.get_submodule(m).register_forward_hook(keep(s)) for m, s in names.items()]
    model(x)
    for handle in handles:
        handle.remove()
    return caught


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("build", "names"),
    [
        (small_mlp, {"relu1": "fc1", "relu2": "fc2"}),
        (small_conv, {"relu1": "conv1", "relu2": "conv2"}),
    ],
)
def test_activations_equal_what_forward_hooks_catch(
    build: Callable[[], nn.Module], names: dict[str, str], training: bool
) -> None:
    model = build()
    randomise_norms(model)
    layout = layout_of(model, EXAMPLE)
    model.train(training)
    x = torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        expected = caught_by_hooks(model, x, names)
        found = activations(layout, x)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_activations_of_functional_networks_are_those_after_the_activation() -> None:
    model = Functional()
    x = torch.randn(6, 1, 8, 8)
    before = caught_by_hooks(model, x, {n: n for n in ("conv1", "conv2", "fc1")})
    with torch.no_grad():
        found = activations(layout_of(model, EXAMPLE), x)
    assert found.keys() == before.keys()
    assert all(torch.equal(found[n], before[n].clamp(min=0)) for n in before)


def test_activations_are_what_the_next_layer_reads_wherever_the_normalisation_stands() -> None:
    model = Normed().eval()
    randomise_norms(model)
    read: list[Tensor] = []
    model.conv2.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    model.fc1.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    layout = layout_of(model, EXAMPLE)
    read.clear()
    with torch.no_grad():
        found = activations(layout, torch.randn(6, 1, 8, 8))
    assert torch.equal(found["conv1"], read[0])
    assert torch.equal(found["conv2"].flatten(1), read[1])


def test_activations_follow_weights_that_change_after_the_layout_was_found() -> None:
    model = Functional()
    layout = layout_of(model, EXAMPLE)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        model.conv1.bias.fill_(100.0)
        assert activations(layout, x)["conv1"].min() > 50


class FunctionalDropout(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(64, 40), nn.Linear(40, 30), nn.Linear(30, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(F.relu(self.a(x.flatten(1))), 0.5, self.training)
        return self.fc(F.relu(self.b(x)))


def test_activations_in_eval_mode_are_without_functional_dropout() -> None:
    model = FunctionalDropout().train()
    layout = layout_of(model, EXAMPLE)
    if not layout.sites:  # refusing it is as good
        assert "dropout" in layout.why_no_sites
        return
    model.eval()
    x = torch.randn(6, 1, 8, 8)
    before = caught_by_hooks(model, x, {"a": "a", "b": "b"})
    with torch.no_grad():
        found = activations(layout, x)
    assert torch.equal(found["a"], before["a"].clamp(min=0))
    assert torch.equal(found["b"], before["b"].clamp(min=0))
