"""What is decoded is what was encoded, to the last bit, and encodes to the same bytes again."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_layers import MASKS, layer, same_bits
from torch import Tensor

from bench.measure.codec import CodecError, Shared, decode, encode, sizes
from bench.measure.codec.stream import CHUNK, FEWEST_FOR_CHUNKS

ENTROPIES = ("fixed", "huffman")


def check_round_trip(
    content: dict[str, Tensor | Shared], index_bits: object, entropy: str
) -> bytes:
    facts = {"method": "test", "bits": 5, "list": [1, 2.5, None, "ü"]}
    data = encode(content, facts=facts, index_bits=index_bits, entropy=entropy)
    decoded = decode(data)
    assert decoded.facts == facts
    assert list(decoded.tensors) == list(content)
    for name, tensor in content.items():
        dense = tensor.dense() if isinstance(tensor, Shared) else tensor
        assert same_bits(decoded.tensors[name], dense)
        assert (name in decoded.shared) == isinstance(tensor, Shared)
        if isinstance(tensor, Shared):
            shared = decoded.shared[name]
            assert torch.equal(shared.mask, tensor.mask)
            assert same_bits(shared.codebook, tensor.codebook)
            kept = tensor.mask
            assert torch.equal(shared.assignment[kept].long(), tensor.assignment[kept].long())
            assert same_bits(shared.dense(), dense)
    again = encode(
        decoded.content, facts=decoded.facts, index_bits=decoded.index_bits, entropy=decoded.entropy
    )
    assert again == data
    assert sum(part.total for part in sizes(data)) == len(data)
    return data


@settings(max_examples=1000, deadline=None)
@given(
    kind=st.sampled_from(MASKS),
    shape=st.tuples(st.integers(0, 24), st.integers(0, 70)),
    bits=st.integers(1, 8),
    unused=st.integers(0, 1),
    index_bits=st.sampled_from([*range(1, 17), "best"]),
    entropy=st.sampled_from(ENTROPIES),
    skew=st.sampled_from([1.0, 4.0, 1e9]),
    seed=st.integers(0, 10_000),
)
def test_any_layer_comes_back(
    kind: str,
    shape: tuple[int, int],
    bits: int,
    unused: int,
    index_bits: int | str,
    entropy: str,
    skew: float,
    seed: int,
) -> None:
    shared = layer(kind, *shape, k=2**bits - unused, seed=seed, skew=skew)
    check_round_trip({"weight": shared, "bias": torch.randn(3)}, index_bits, entropy)


@pytest.mark.parametrize("entropy", ENTROPIES)
@pytest.mark.parametrize(
    "n", [1, 2, FEWEST_FOR_CHUNKS - 1, FEWEST_FOR_CHUNKS, FEWEST_FOR_CHUNKS + 1,
          256 * CHUNK - 1, 256 * CHUNK, 256 * CHUNK + 1, 512 * CHUNK + 77],
)  # fmt: skip
def test_streams_of_any_number_of_chunks_come_back(n: int, entropy: str) -> None:
    check_round_trip({"w": layer("all", 1, n, k=200, skew=3.0)}, 5, entropy)
    check_round_trip({"w": layer("some", 1, 2 * n, k=3, skew=3.0)}, 3, entropy)


def test_large_codebooks_come_back() -> None:
    for k in (257, 4097, 40_000, 65_536):
        for entropy in ENTROPIES:
            check_round_trip({"w": layer("some", 100, 300, k=k)}, 4, entropy)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64,
              torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool],
)  # fmt: skip
def test_plain_tensors_come_back_in_their_own_type(dtype: torch.dtype) -> None:
    tensor = (torch.randn(3, 4, 5) * 9).to(dtype)
    content = {
        "whole": tensor, "none": tensor[:0], "scalar": tensor[0, 0, 0], "strided": tensor.mT,
    }  # fmt: skip
    check_round_trip(content, 5, "huffman")


def test_special_values_come_back() -> None:
    special = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-45])
    shared = Shared((6,), special, torch.arange(6), torch.tensor([True] * 5 + [False]))
    check_round_trip({"plain": special, "shared": shared}, 5, "huffman")


def test_layers_without_dimensions_and_without_weights_come_back() -> None:
    for shape in ((), (0,), (3, 0, 5)):
        for kept in (True, False):
            shared = Shared(
                shape, torch.ones(1), torch.zeros(shape, dtype=torch.uint8), torch.full(shape, kept)
            )
            check_round_trip({"w": shared}, 5, "huffman")


def test_a_layer_without_values_comes_back() -> None:
    nothing = Shared(
        (7,), torch.empty(0), torch.zeros(7, dtype=torch.int64), torch.zeros(7, dtype=torch.bool)
    )
    check_round_trip({"w": nothing}, "best", "huffman")


def test_what_a_dropped_weight_was_assigned_to_does_not_matter() -> None:
    shared = layer("few")
    other = shared.assignment.clone().long()
    other[~shared.mask] = 10**9
    changed = Shared(shared.shape, shared.codebook, other, shared.mask)
    assert check_round_trip({"w": shared}, 5, "fixed") == check_round_trip(
        {"w": changed}, 5, "fixed"
    )


def test_zeros_behind_the_last_weight_are_paid_for_where_they_are_many() -> None:
    empty = layer("none", 1, 7_000_000, k=2)
    data = check_round_trip({"w": empty}, 16, "fixed")
    small = check_round_trip({"w": layer("none", 1, 6_000_000, k=2)}, 16, "fixed")
    # A filler of 16 bits for each 65,536 weights.
    assert 200 < len(data) - len(small) < 300


def test_the_best_index_width_is_the_best() -> None:
    for density, seed in ((0.3, 0), (0.08, 1), (0.004, 2)):
        draw = np.random.default_rng(seed)
        mask = torch.from_numpy(draw.random(30_000) < density)
        shared = Shared((30_000,), torch.ones(1), torch.zeros(30_000, dtype=torch.uint8), mask)
        for entropy in ENTROPIES:
            each = [
                len(encode({"w": shared}, facts={}, index_bits=bits, entropy=entropy))
                for bits in range(1, 17)
            ]
            best = encode({"w": shared}, facts={}, index_bits="best", entropy=entropy)
            assert len(best) == min(each)


def test_index_bits_can_be_given_by_layer() -> None:
    content = {"a": layer("few"), "b": layer("few", seed=1)}
    data = encode(content, facts={}, index_bits={"a": 3, "b": 7}, entropy="fixed")
    assert decode(data).index_bits == {"a": 3, "b": 7}
    with pytest.raises(CodecError, match="layer 'b'"):
        encode(content, facts={}, index_bits={"a": 3}, entropy="fixed")


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        (Shared((2,), torch.ones(1), torch.tensor([0, 1]), torch.ones(2, dtype=torch.bool)),
         "outside its codebook of 1"),
        (Shared((2,), torch.ones(1), torch.tensor([0, -1]), torch.ones(2, dtype=torch.bool)),
         "outside its codebook of 1"),
        (Shared((2,), torch.ones(1).double(), torch.zeros(2).long(), torch.ones(2).bool()),
         "codebook of torch.float64"),
        (Shared((2,), torch.ones(1), torch.zeros(2), torch.ones(2).bool()), "indices are integers"),
        (Shared((2,), torch.ones(1), torch.zeros(2).long(), torch.ones(2)), "masks are bool"),
        (Shared((2,), torch.ones(1), torch.zeros(3).long(), torch.ones(2).bool()),
         r"assignment of shape \(3,\)"),
        (Shared((3,), torch.ones(1), torch.zeros(3).long(), torch.ones(2).bool()), "a mask of"),
    ],
)  # fmt: skip
def test_a_layer_that_does_not_fit_together_is_refused(shared: Shared, words: str) -> None:
    with pytest.raises(CodecError, match=words):
        encode({"w": shared}, facts={}, index_bits=5, entropy="fixed")


@pytest.mark.parametrize("index_bits", [0, 17, -1])
def test_an_index_width_out_of_range_is_refused(index_bits: int) -> None:
    with pytest.raises(CodecError, match="from 1 to 16"):
        encode({"w": layer()}, facts={}, index_bits=index_bits, entropy="fixed")


def test_what_cannot_be_written_is_refused_by_name() -> None:
    def refuse(content: object, words: str, facts: object = None, entropy: str = "fixed") -> None:
        with pytest.raises(CodecError, match=words):
            encode(content, facts=facts or {}, index_bits=5, entropy=entropy)  # type: ignore[arg-type]

    refuse({"z": torch.ones(2, dtype=torch.complex64)}, "'z' of torch.complex64")
    refuse({"s": torch.eye(2).to_sparse()}, "'s'")
    refuse({"": torch.ones(2)}, "names are text of 1")
    refuse({"\ud800": torch.ones(2)}, "names are text of 1")
    refuse({"x" * 1025: torch.ones(2)}, "names are text of 1")
    refuse({"d": torch.ones((1,) * 9)}, "8 dimensions")
    refuse({}, "facts cannot be written", facts={"nan": math.nan})
    refuse({}, "facts cannot be written", facts={"tensor": torch.ones(1)})
    refuse({}, "facts take", facts={"long": "x" * 2**20})
    refuse({}, "'zip' is unknown", entropy="zip")
    refuse({str(i): torch.ones(1) for i in range(4097)}, "4097 tensors")
