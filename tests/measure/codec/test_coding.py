"""The parts of the format: bits, Huffman codes, relative positions, and what they cost."""

import heapq
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_layers import layer

from bench.measure.codec import Shared, decode, encode, sizes
from bench.measure.codec.bits import pack, unpack
from bench.measure.codec.huffman import LONGEST, canonical_codes, code_lengths
from bench.measure.codec.relative_index import codes, entries, gaps_of, positions_of
from bench.measure.codec.stream import huffman

counts_of_symbols = st.lists(st.integers(0, 10_000), min_size=1, max_size=300)


def heap_cost_bits(counts: list[int]) -> int:
    """Return the bits of the best prefix code by merging the two rarest again and again."""
    heap = [c for c in counts if c]
    if len(heap) == 1:
        return heap[0]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


def bit_string(data: bytes) -> str:
    return "".join(f"{octet:08b}" for octet in data)


@given(st.lists(st.tuples(st.integers(0, 16), st.integers(0, 65_535)), max_size=300))
def test_numbers_are_packed_highest_bit_first(pairs: list[tuple[int, int]]) -> None:
    widths = [width for width, _ in pairs]
    numbers = [number & ((1 << width) - 1) for width, number in pairs]
    packed = pack(np.array(numbers, np.int64), np.array(widths, np.int64))
    expected = "".join(f"{n:0{w}b}" for n, w in zip(numbers, widths, strict=True) if w)
    assert bit_string(packed) == expected + "0" * (-len(expected) % 8)


@pytest.mark.parametrize("width", range(1, 17))
def test_numbers_of_one_width_are_unpacked(width: int) -> None:
    numbers = np.random.default_rng(width).integers(0, 1 << width, 70_001)
    data = np.frombuffer(pack(numbers, np.array([width])), np.uint8)
    assert np.array_equal(unpack(data, len(numbers), width), numbers)


def test_huffman_lengths_and_canonical_codes() -> None:
    counts = np.array([5, 2, 1, 1])
    lengths = code_lengths(counts)
    assert lengths.tolist() == [1, 2, 3, 3]
    assert canonical_codes(lengths).tolist() == [0b0, 0b10, 0b110, 0b111]
    assert int((lengths * counts).sum()) == 15
    assert 2 * counts.sum() == 18  # bits with one width


@settings(max_examples=300)
@given(counts_of_symbols)
def test_codes_are_as_short_as_a_heaps_and_decodable(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts))
    used = lengths[lengths > 0].astype(int)
    assert [n > 0 for n in lengths] == [c > 0 for c in counts]
    best = heap_cost_bits(counts) if any(counts) else 0
    # Counts up to 10,000 can need more than 12 bits: then the limit may cost something.
    cost = int((lengths.astype(int) * counts).sum())
    assert best <= cost <= best * 1.01
    if len(used) > 1:
        assert used.max() <= LONGEST
        assert (2.0**-used).sum() == 1
    strings = [
        f"{code:0{n}b}"
        for code, n in zip(canonical_codes(lengths), lengths, strict=True) if n
    ]  # fmt: skip
    assert not any(b.startswith(a) for a, b in itertools.pairwise(sorted(strings)))


def test_without_the_limit_in_play_codes_cost_exactly_a_heaps() -> None:
    draw = np.random.default_rng(0)
    for n in (2, 3, 17, 33, 64):
        counts = draw.integers(20, 60, n)
        assert int((code_lengths(counts).astype(int) * counts).sum()) == heap_cost_bits(
            counts.tolist()
        )


def test_codes_are_limited_to_12_bits_whatever_the_counts() -> None:
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    lengths = code_lengths(np.array(fibonacci)).astype(float)
    assert lengths.max() == LONGEST
    assert (2.0**-lengths).sum() == 1


def test_codes_are_written_highest_bit_first_in_order() -> None:
    symbols = np.array([0, 1, 0, 2, 0, 3, 0, 1, 0], np.int32)
    coded = huffman(symbols, 4)
    assert coded is not None
    assert (
        bit_string(coded.codes) == "0" + "10" + "0" + "110" + "0" + "111" + "0" + "10" + "0" + "0"
    )


def test_relative_index_with_fillers() -> None:
    symbols = entries(gaps_of(np.array([1, 4, 15])), 3)
    assert codes(symbols, 3).tolist() == [1, 2, 7, 2]
    assert (symbols == 8).tolist() == [False, False, True, False]
    symbols = entries(gaps_of(np.array([0, 16, 17, 49])), 4)
    assert codes(symbols, 4).tolist() == [0, 15, 0, 15, 15]
    assert (symbols == 16).tolist() == [False, False, False, True, False]


@given(st.sets(st.integers(0, 3000)), st.integers(1, 16))
def test_positions_come_back(places: set[int], index_bits: int) -> None:
    positions = np.array(sorted(places), np.int64)
    symbols = entries(gaps_of(positions), index_bits)
    assert np.array_equal(positions_of(symbols, index_bits), positions)


@pytest.mark.parametrize(
    ("density", "index_bits", "fillers_per_weight"),
    [(0.08, 5, 0.075), (0.09, 4, 0.284), (0.04, 5, 0.371)],
)
def test_evenly_dropped_weights_need_as_many_fillers_as_the_formula_says(
    density: float, index_bits: int, fillers_per_weight: float
) -> None:
    positions = np.flatnonzero(np.random.default_rng(0).random(1_000_000) < density)
    symbols = entries(gaps_of(positions), index_bits)
    fillers = (symbols == 1 << index_bits).sum()
    assert fillers / len(positions) == pytest.approx(fillers_per_weight, abs=0.005)


def test_sixteen_weights_in_four_clusters() -> None:
    shared = Shared(
        (4, 4), torch.tensor([2.0, 1.5, 0.0, -1.0]), torch.arange(16).reshape(4, 4) % 4,
        torch.ones(4, 4, dtype=torch.bool),
    )  # fmt: skip
    cost, _ = sizes(encode({"w": shared}, facts={}, index_bits=5, entropy="fixed"))
    assert 16 * 32 / (8 * (cost.values + cost.codebook)) == 3.2
    assert cost.positions == cost.tables == cost.raw == 0


def test_a_layer_without_dropped_weights_pays_for_no_positions() -> None:
    for entropy in ("fixed", "huffman"):
        cost, _ = sizes(encode({"w": layer("all")}, facts={}, index_bits=5, entropy=entropy))
        assert cost.positions == 0


def test_fixed_values_take_the_bits_of_an_index() -> None:
    for k, bits in ((2, 1), (3, 2), (16, 4), (17, 5), (255, 8), (256, 8)):
        shared = layer("some", k=k)
        cost, _ = sizes(encode({"w": shared}, facts={}, index_bits=5, entropy="fixed"))
        assert cost.values == (int(shared.mask.sum()) * bits + 7) // 8
        assert cost.codebook == 4 * k


def test_positions_of_half_the_weights_are_a_bit_each() -> None:
    cost, _ = sizes(encode({"w": layer("some")}, facts={}, index_bits=5, entropy="fixed"))
    assert cost.positions == 40 * 50 / 8


def test_huffman_is_never_longer_than_fixed() -> None:
    for kind, k, skew in itertools.product(
        ("some", "few", "first", "all"), (2, 32, 256), (1.0, 5.0)
    ):
        content = {"w": layer(kind, k=k, skew=skew)}
        lengths = [
            len(encode(content, facts={}, index_bits=5, entropy=e)) for e in ("huffman", "fixed")
        ]
        assert lengths[0] <= lengths[1]


def test_sizes_name_every_tensor_and_the_file() -> None:
    content = {"w": layer("few"), "b": torch.ones(10), "n": torch.tensor(3)}
    data = encode(content, facts={"a": 1}, index_bits=5, entropy="huffman")
    costs = sizes(data)
    assert [c.name for c in costs] == ["w", "b", "n", ""]
    assert [c.raw for c in costs] == [0, 40, 8, 0]
    assert costs[-1].checksum == 8
    assert sum(c.total for c in costs) == len(data)


def laplace_layer(shape: tuple[int, int], density: float, k: int, seed: int) -> Shared:
    """Return a layer as pruning leaves it: the largest of Laplace-distributed weights."""
    draw = np.random.default_rng(seed)
    weights = draw.laplace(size=shape)
    size = np.abs(weights)
    mask = size >= np.quantile(size, 1 - density)
    book = np.linspace(weights.min(), weights.max(), k)
    assignment = np.abs(weights[..., None] - book).argmin(-1)
    return Shared(shape, torch.from_numpy(book).float(), torch.from_numpy(assignment),
                  torch.from_numpy(mask))  # fmt: skip


def test_lenet_300_100_at_the_papers_densities_is_about_as_small_as_in_the_paper() -> None:
    shapes = {"fc1": (300, 784, 0.08), "fc2": (100, 300, 0.09), "fc3": (10, 100, 0.26)}
    content: dict[str, Shared | torch.Tensor] = {}
    for i, (name, (rows, columns, density)) in enumerate(shapes.items()):
        content[f"{name}.weight"] = laplace_layer((rows, columns), density, 64, i)
        content[f"{name}.bias"] = torch.zeros(rows)
    dense_bytes = 4 * 266_610
    files = [encode(content, facts={}, index_bits=5, entropy=e) for e in ("fixed", "huffman")]
    shares = [len(file) / dense_bytes for file in files]
    # The paper: 3.1 % and 2.49 %, without biases and tables, and with zeros in bands.
    assert shares[0] == pytest.approx(0.031, abs=0.003)
    assert shares[1] == pytest.approx(0.0249, abs=0.003)
    assert decode(files[0]).tensors.keys() == decode(files[1]).tensors.keys()
