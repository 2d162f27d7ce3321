"""The bytes of a file are frozen: files of earlier versions stay readable, and sizes stay comparable."""

import hashlib

import pytest
import torch
from shared_layers import same_bits

from bench.measure.codec import Entropy, Shared, decode, encode
from bench.measure.codec.stream import FEWEST_FOR_CHUNKS

ROWS, COLUMNS, VALUES = 300, 400, 17


def written_layer() -> Shared:
    """Return a layer whose streams have chunks, its codes as short and as long as there are.

    By integer arithmetic alone: a generator's numbers may change with its library. How often two
    divides a place halves from value to value, and would want codes of up to 16 bits.
    """
    places = torch.arange(1, ROWS * COLUMNS + 1)
    mask = places * (places + 7) % 11 < 3
    assignment = sum((places % 2**i == 0).to(torch.uint8) for i in range(1, VALUES))
    codebook = torch.arange(VALUES, dtype=torch.float32) / 8 - 2
    shape = (ROWS, COLUMNS)
    return Shared(shape, codebook, assignment.reshape(shape), mask.reshape(shape))


@pytest.mark.parametrize(
    ("entropy", "length", "digest"),
    [("fixed", 42467, "1871bf3df9239ad7"), ("huffman", 19541, "3509f8547caba7b7")],
)  # fmt: skip
def test_a_file_has_the_bytes_it_always_had(entropy: Entropy, length: int, digest: str) -> None:
    few = Shared((3, 4), torch.tensor([0.5, -1.0]), torch.ones(3, 4).byte(), torch.eye(3, 4).bool())
    content = {"fc.weight": written_layer(), "few": few, "fc.bias": torch.arange(9) / 4}
    assert int(few.mask.sum()) < FEWEST_FOR_CHUNKS < int(content["fc.weight"].mask.sum())
    data = encode(content, facts={"method": "x", "n": 1}, index_bits=5, entropy=entropy)
    assert len(data) == length
    assert hashlib.sha256(data).hexdigest()[:16] == digest
    decoded = decode(data).tensors
    assert same_bits(decoded["fc.weight"], content["fc.weight"].dense())
    assert same_bits(decoded["few"], few.dense())
    assert same_bits(decoded["fc.bias"], content["fc.bias"])
