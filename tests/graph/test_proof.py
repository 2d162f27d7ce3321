"""The proof of removal: wherever a network was traced, on few inputs where it is large."""

import pytest
import torch
from small_networks import small_conv, small_mlp
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph import verify
from bench.graph.trace import layout_of
from bench.graph.verify import removed

SHAPE = (1, 8, 8)


class Switched(nn.Module):
    """A network that computes as a switch says that no graph knows of."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1)) * self.factor


class Noisy(nn.Module):
    """A network that is random in evaluation too, and names a type of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.dropout(x.float().flatten(1), 0.5, True))


def test_a_network_that_no_longer_computes_its_graph_is_refused() -> None:
    model = Switched()
    layout = layout_of(model, torch.zeros(1, *SHAPE))
    assert removed(model, layout, {}, SHAPE).error == 0.0
    model.factor = 2.0
    with pytest.raises(TrialFailed, match="graph of the network differs"):
        removed(model, layout, {}, SHAPE)


def test_random_networks_and_those_of_one_type_agree_with_their_graph() -> None:
    model = Noisy()
    layout = layout_of(model, torch.zeros(1, *SHAPE))
    assert layout.graph is not None
    assert removed(model, layout, {}, SHAPE).error == 0.0
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_nothing_dead_is_no_difference_at_all(build: type[nn.Module]) -> None:
    model = build()
    left = removed(model, layout_of(model, torch.zeros(1, *SHAPE)), {}, SHAPE)
    assert left.network is model
    assert left.error == 0.0


def test_a_large_network_is_proved_on_two_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of(small_mlp(), torch.zeros(1, *SHAPE))  # 1,264 multiply-adds
    monkeypatch.setattr(verify, "LARGE", 1264)
    assert len(verify._proof_inputs(layout, SHAPE)) == 8
    monkeypatch.setattr(verify, "LARGE", 1263)
    assert len(verify._proof_inputs(layout, SHAPE)) == 2
