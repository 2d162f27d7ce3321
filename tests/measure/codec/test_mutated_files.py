"""Thousands of damaged files, half of them with a right checksum: each is decoded or refused."""

import tracemalloc

import numpy as np
import pytest
import torch
from decoding_limits import CHECKSUM, MOST_BYTES, decode_and_check, sealed, whole_files

from bench.measure.codec.reading import varint
from bench.sweep.machine import Machine


def mutated(data: bytes, draw: np.random.Generator) -> bytes:
    """Change a file in one to four places; half of the places are near its start."""
    out = bytearray(data)
    for _ in range(int(draw.integers(1, 5))):
        if not out:
            break
        reach = min(len(out), 200) if draw.random() < 0.5 else len(out)
        place = int(draw.integers(reach))
        some = int(draw.integers(1, 12))
        random_bytes = draw.integers(0, 256, some, dtype=np.uint8).tobytes()
        match int(draw.integers(7)):
            case 0:
                out[place] ^= 1 << int(draw.integers(8))
            case 1:
                out[place] = int(draw.integers(256))
            case 2:
                out[place : place + some] = random_bytes
            case 3:
                del out[place : place + some]
            case 4:
                out[place:place] = random_bytes
            case 5:  # the largest numbers
                out[place : place + 1] = varint((1 << int(draw.integers(7, 64))) - 1)[:9]
            case 6:
                del out[place:]
    return bytes(out)


def check_mutations(n: int, seed: int) -> dict[str, int]:
    """Decode mutated files, every second one with its checksum repaired."""
    draw = np.random.default_rng(seed)
    originals = whole_files()
    seen = {"refused": 0, "decoded": 0}
    peak = Machine(torch.device("cpu")).peak_memory_mb
    before = peak()
    tracemalloc.start()
    try:
        for i in range(n):
            original = originals[int(draw.integers(len(originals)))]
            is_repaired = i % 2 == 0
            data = mutated(original[:-CHECKSUM] if is_repaired else original, draw)
            data = sealed(data) if is_repaired else data
            outcome = decode_and_check(data)
            seen[outcome] += 1
            if not is_repaired:
                assert outcome == "refused" or data == original
    finally:
        tracemalloc.stop()
    after = peak()
    if before is not None and after is not None:  # Windows does not say
        assert (after - before) * 2**20 < 2 * MOST_BYTES  # the tests' own copies included
    return seen


def test_500_mutated_files_are_decoded_or_refused() -> None:
    seen = check_mutations(500, seed=0)
    assert seen["refused"] > 300
    assert seen["decoded"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_3000_mutated_files_are_decoded_or_refused(seed: int) -> None:
    check_mutations(3000, seed)
