"""Decoding within limits of time and memory, and files to try it on."""

import hashlib
import time
import tracemalloc

import pytest
import torch
from shared_layers import layer, same_bits

from bench.measure.codec import CodecError, decode, encode, sizes

MOST_SECONDS = 1.0
MOST_BYTES = 100_000_000
CHECKSUM = 8


def sealed(content: bytes) -> bytes:
    """Add the checksum that an attacker would."""
    return content + hashlib.sha256(content).digest()[:CHECKSUM]


def whole_files() -> list[bytes]:
    """Return small files that use every part of the format."""
    small = {
        "conv.weight": layer("some", 6, 25, k=8, seed=1),
        "conv.bias": torch.randn(6, generator=torch.Generator().manual_seed(0)),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": layer("few", 30, 90, k=32, seed=2, skew=3.0),
        "out.weight": layer("all", 10, 30, k=4, seed=3, skew=2.0),
        "empty.weight": layer("none", 50, 50, k=2),
        "mask": torch.tensor([True, False, True]),
    }
    large = {"w": layer("few", 400, 900, k=20, seed=4, skew=3.0), "b": torch.zeros(5)}
    facts = {"method": "deep-compression", "top1": 98.4}
    return [
        encode(small, facts=facts, index_bits=5, entropy="huffman"),
        encode(small, facts=facts, index_bits="best", entropy="fixed"),
        encode(large, facts={}, index_bits=4, entropy="huffman"),
        encode({"w": layer("few", seed=9)}, facts={}, index_bits=3, entropy="fixed"),
    ]


def decode_and_check(data: bytes) -> str:
    """Decode within the limits; what is decoded must be encoded and decoded to the same."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    started = time.process_time()
    try:
        decoded = decode(data)
    except CodecError as error:
        assert str(error).count("\n") == 0
        decoded = None
    assert time.process_time() - started < MOST_SECONDS
    assert tracemalloc.get_traced_memory()[1] - before < MOST_BYTES
    if decoded is None:
        with pytest.raises(CodecError):
            sizes(data)
        return "refused"
    again = decode(
        encode(
            decoded.content, facts=decoded.facts, index_bits=decoded.index_bits,
            entropy=decoded.entropy,
        )
    )  # fmt: skip
    assert again.facts == decoded.facts
    assert list(again.tensors) == list(decoded.tensors)
    assert all(same_bits(again.tensors[n], t) for n, t in decoded.tensors.items())
    assert sum(part.total for part in sizes(data)) == len(data)
    return "decoded"
