"""Networks as Deep Compression files: what is written, what comes back, and what it weighs."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import randomise_norms, small_conv, small_mlp
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.graph.trace import layout_of
from bench.measure import file_size
from bench.measure.codec import Decoded, Shared, decode, encode
from bench.measure.file_size import FILES, content_of, through_files

few = settings(
    max_examples=25, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip


def shared_network(
    model: nn.Module, density: float = 0.3, values: int = 15, seed: int = 0
) -> tuple[nn.Module, Layout, dict[str, Tensor]]:
    """Give every layer few values and a random mask, and normalisations a history."""
    layout = layout_of(model, torch.zeros(1, 1, 8, 8))
    if layout.has_convolutions:
        model.to(memory_format=torch.channels_last)
        randomise_norms(model, seed)
        model.get_buffer("bn1.num_batches_tracked").fill_(2**40 + 3)
    g = torch.Generator().manual_seed(seed)
    masks = {}
    for name, shape in layout.weights.items():
        book = torch.randn(values, generator=g)
        mask = torch.rand(shape, generator=g) < density
        mask.view(-1)[0] = True
        drawn = book[torch.randint(values, shape, generator=g)] * mask
        model.get_parameter(name).data.copy_(drawn + 0.0)
        masks[name] = mask
    return model, layout, masks


def same_bits(a: Tensor, b: Tensor) -> bool:
    first, second = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(first, second)


def _shared_bits(kept: Tensor, index_bits: int) -> int:
    """Bits of a codebook in float32, and of a place and a value for each weight that is kept."""
    values = len(set(kept.tolist()))
    return 32 * values + len(kept) * (values.bit_length() + index_bits)


@few
@given(
    convolutions=st.booleans(),
    density=st.floats(0.0, 1.0),
    values=st.integers(1, 40),
    index_bits=st.integers(1, 16),
    seed=st.integers(0, 1000),
)
def test_files_decode_to_the_network_bit_by_bit(
    tmp_path: Path, convolutions: bool, density: float, values: int, index_bits: int, seed: int
) -> None:
    build = small_conv if convolutions else small_mlp
    model, layout, masks = shared_network(build(), density, values, seed)
    before = copy.deepcopy(model.state_dict())
    smaller_when_shared = {
        name for name, mask in masks.items() if _shared_bits(before[name][mask], index_bits)
        <= 32 * mask.numel()
    }  # fmt: skip
    columns = through_files(tmp_path, model, layout, masks, index_bits, {"seed": seed})
    for name in FILES.values():
        decoded = decode((tmp_path / name).read_bytes())
        assert decoded.facts == {"seed": seed}
        assert decoded.tensors.keys() == before.keys()
        assert decoded.shared.keys() == smaller_when_shared
        assert set(decoded.index_bits.values()) <= {index_bits}
        for key, tensor in before.items():
            assert same_bits(decoded.tensors[key], tensor), key
        for key, layer in decoded.shared.items():
            assert torch.equal(layer.mask, masks[key])
            assert len(layer.codebook) <= values
    for key, tensor in model.state_dict().items():
        assert same_bits(tensor, before[key])
    assert columns.file_bytes <= columns.file_bytes_fixed


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_sizes_are_those_of_the_files(tmp_path: Path, build: Any) -> None:
    model, layout, masks = shared_network(build())
    columns = through_files(tmp_path, model, layout, masks, 5, {}).as_json()
    dense = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    assert columns["file_bytes_dense"] == dense
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model-fixed.dc", "model.dc"]
    for ending, name in (("_fixed", "model-fixed.dc"), ("", "model.dc")):
        size = os.path.getsize(tmp_path / name)  # noqa: PTH202
        assert columns[f"file_bytes{ending}"] == size
        assert columns[f"file_compression{ending}"] == dense / size
        rows = columns[f"file_layers{ending}"]
        assert [row["name"] for row in rows] == [*model.state_dict(), ""]
        assert sum(sum(v for k, v in row.items() if k != "name") for row in rows) == size
        for row in rows[:-1]:
            tensor = model.state_dict()[row["name"]]
            if row["name"] in layout.weights:
                kept = tensor[masks[row["name"]]]
                assert row["raw"] == 0
                assert row["codebook"] == 4 * len(kept.unique())
            else:
                assert row["raw"] == tensor.numel() * tensor.element_size()


def test_a_kept_weight_that_is_zero_is_still_kept() -> None:
    model, layout, masks = shared_network(small_mlp())
    first = masks["fc1.weight"].nonzero()[0]
    with torch.no_grad():
        model.get_parameter("fc1.weight")[tuple(first)] = 0.0
    content = content_of(model, layout, masks, 5)
    layer = content["fc1.weight"]
    assert isinstance(layer, Shared)
    assert torch.equal(layer.mask, masks["fc1.weight"])
    assert torch.equal(layer.dense(), model.get_parameter("fc1.weight"))


def test_what_is_not_shared_is_stored_as_it_is() -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 4))
    layout = layout_of(wide, torch.zeros(1, 1, 8, 8))
    content = content_of(wide, layout, {}, 5)
    assert torch.equal(torch.as_tensor(content["1.weight"]), wide[1].weight)
    assert all(torch.is_tensor(content[name]) for name in ("1.bias", "3.bias"))


def test_the_network_goes_on_with_what_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, layout, masks = shared_network(small_conv())

    def wrong(data: bytes) -> Decoded:
        decoded = decode(data)
        decoded.tensors["bn1.running_mean"][0] += 1
        return decoded

    monkeypatch.setattr(file_size, "decode", wrong)
    with pytest.raises(TrialFailed, match=r"does not decode to the network's 'bn1\.running_mean'"):
        through_files(tmp_path, model, layout, masks, 5, {})


def test_a_dropped_weight_that_is_not_zero_is_noticed(tmp_path: Path) -> None:
    model, layout, masks = shared_network(small_mlp())
    gone = (~masks["fc2.weight"]).nonzero()[0]
    with torch.no_grad():
        model.get_parameter("fc2.weight")[tuple(gone)] = 0.5
    with pytest.raises(TrialFailed, match=r"does not decode to the network's 'fc2\.weight'"):
        through_files(tmp_path, model, layout, masks, 5, {})


def test_content_is_what_the_file_is_made_of_again(tmp_path: Path) -> None:
    model, layout, masks = shared_network(small_conv())
    through_files(tmp_path, model, layout, masks, 4, {"model": "small"})
    data = (tmp_path / "model.dc").read_bytes()
    decoded = decode(data)
    again = encode(
        decoded.content, facts=decoded.facts, index_bits=decoded.index_bits, entropy="huffman"
    )
    assert again == data


def test_wide_values_are_shared_too(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 800), nn.ReLU(), nn.Linear(800, 4))
    model, layout, masks = shared_network(model, density=0.5, values=2**13 - 1)
    columns = through_files(tmp_path, model, layout, masks, 5, {})
    assert columns.file_compression > 1.1
    assert "1.weight" in decode((tmp_path / "model.dc").read_bytes()).shared
