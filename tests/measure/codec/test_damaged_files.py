"""Whatever the bytes, decoding ends soon, in little memory: with tensors or with one sentence."""

import json
import math
import pickle
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from decoding_limits import (
    CHECKSUM,
    MOST_BYTES,
    MOST_SECONDS,
    decode_and_check,
    sealed,
    whole_files,
)
from shared_layers import layer

from bench.errors import UsageError
from bench.measure.codec import CodecError, decode, encode
from bench.measure.codec.bits import pack
from bench.measure.codec.file import UNPAID_WEIGHTS
from bench.measure.codec.header import PlainRecord, SharedRecord, TensorRecord, written
from bench.measure.codec.reading import varint


def file_of(
    records: list[TensorRecord | bytes], payload: bytes = b"", facts: bytes = b"{}"
) -> bytes:
    """Return a file with a right checksum and whatever content."""
    start = b"PBDC\x01\x00" + varint(len(facts)) + facts + varint(len(records))
    parts = [r if isinstance(r, bytes) else written(r) for r in records]
    return sealed(start + b"".join(parts) + payload)


def test_every_truncation_is_refused() -> None:
    data = whole_files()[0]
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:length])
        with pytest.raises(CodecError):
            decode(sealed(data[: max(0, length - CHECKSUM)]))


def test_every_changed_bit_is_refused() -> None:
    data = encode({"w": layer("few", 10, 20)}, facts={"a": 1}, index_bits=3, entropy="huffman")
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place >> 3] ^= 1 << (place & 7)
        with pytest.raises(CodecError):
            decode(bytes(changed))


SOUND = SharedRecord("w", (10,), "relative", "fixed", "fixed", 4, 2, 1, 1)
BOOK = np.array([1.0, 2.0], "<f4").tobytes()


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Files with a right checksum that claim what they do not hold."""
    empty = replace(SOUND, kept=0, entries=0)
    yield "more weights than", file_of([replace(empty, shape=(10**9 // 4,))], BOOK)
    yield "bytes in memory", file_of([replace(empty, shape=(10**12,))], BOOK)
    many = [replace(empty, name=f"w{i}", shape=(UNPAID_WEIGHTS // 3,)) for i in range(4)]
    yield "more weights than", file_of([*many], BOOK * 4)
    start, end = written(SOUND)[:3], written(SOUND)[5:]
    for shape in ((2**40, 2**40), (2**32, 2**32), (0, 2**40, 2**40), (2**41,)):
        spelled = b"".join(varint(n) for n in (len(shape), *shape))
        yield "larger than|a shape is not", file_of([start + spelled + end], BOOK)
    yield "8", file_of([start + varint(9) + b"\1" * 9 + end], BOOK)
    yield "within a tensor", file_of([PlainRecord("x", (5 * 10**8,), torch.float32)])
    yield "in memory", file_of([PlainRecord("x", (2**40,), torch.float32)])
    yield "within positions", file_of([replace(SOUND, shape=(10**6,), kept=9, entries=60)], BOOK)
    yield "within a codebook", file_of([replace(SOUND, k=65_536)], BOOK)
    yield "fewer positions", file_of([replace(SOUND, kept=2)], BOOK)
    place, far, value = bytes([3 << 4]), bytes([11 << 4]), bytes([1 << 7])
    assert decode(file_of([SOUND], BOOK + place + value)).tensors["w"][3] == 2.0
    yield "outside the layer", file_of([SOUND], BOOK + far + value)
    yield "stray bits", file_of([SOUND], BOOK + bytes([3 << 4 | 1]) + value)
    yield "bytes follow", file_of([SOUND], BOOK + place + value + b"\0")
    yield "outside its codebook", file_of([replace(SOUND, k=3)], BOOK + b"abcd" + place + b"\xc0")
    yield "outside its codebook", file_of([replace(SOUND, k=0)], place + b"\0")
    yield "end in a filler", file_of([replace(SOUND, kept=0)], BOOK + bytes([0xF0, 0x80]))
    bitmap = replace(SOUND, positions="bitmap", entries=0)
    assert decode(file_of([bitmap], BOOK + b"\x10\0" + value)).tensors["w"][3] == 2.0
    yield "a bitmap does not have", file_of([bitmap], BOOK + b"\x18\0" + value)
    yield "a code for them", file_of([replace(bitmap, gaps="huffman")], BOOK + b"\x10\0" + value)
    yield "one name", file_of([SOUND, SOUND], 2 * (BOOK + place + value))
    yield "has no name", file_of([b"\0" + written(SOUND)[2:]], BOOK + place + value)
    yield "not UTF-8", file_of([b"\1\xff" + written(SOUND)[2:]], BOOK + place + value)
    yield "unknown kind", file_of([b"\1w\x40\0"])
    yield "unknown kind", file_of([b"\1w\xff\0"])
    yield "neither 0 nor 1", file_of([PlainRecord("b", (1,), torch.bool)], b"\2")


def hostile_codes() -> Iterator[tuple[str, bytes]]:
    """Huffman streams that are no codes, or are longer or shorter than they say."""
    record = replace(SOUND, shape=(64,), positions="all", values="huffman", k=4, kept=64, entries=0)
    book = 2 * BOOK

    def stream(lengths: list[int], bits: int, width: int, codes: bytes) -> bytes:
        table = pack(np.array(lengths), np.array([4]))
        return file_of([record], book + table + varint(bits) + bytes([width]) + codes)

    assert decode(stream([1, 1, 0, 0], 64, 0, b"\x0f" * 8)).tensors["w"].sum() == 32 * 3
    yield "not complete", stream([1, 2, 0, 0], 64, 0, b"\x0f" * 8)
    yield "not complete", stream([1, 1, 1, 0], 64, 0, b"\x0f" * 8)
    yield "not complete", stream([2, 0, 0, 0], 64, 0, b"\x0f" * 8)
    yield "empty or too long", stream([0, 0, 0, 0], 64, 0, b"\x0f" * 8)
    yield "empty or too long", stream([13, 13, 1, 2], 64, 0, b"\x0f" * 8)
    yield "stands for no symbol", stream([1, 0, 0, 0], 64, 0, b"\x0f" * 8)
    yield "as they claim", stream([1, 1, 0, 0], 63, 0, b"\x0f" * 8)
    yield "as they claim", stream([1, 1, 0, 0], 64 * 12 + 1, 0, b"\x0f" * 97)
    yield "do not end", stream([1, 1, 0, 0], 72, 0, b"\x0f" * 9)
    yield "do not end", stream([1, 2, 2, 0], 64, 0, b"\xff" * 8)
    yield "within values", stream([1, 1, 0, 0], 64, 0, b"\x0f" * 7)
    yield "chunks of values", stream([1, 1, 0, 0], 64, 33, b"\x0f" * 8)


HOSTILE = [*hostile_files(), *hostile_codes()]


@pytest.mark.parametrize(("words", "data"), HOSTILE, ids=[str(i) for i in range(len(HOSTILE))])
def test_a_file_that_claims_what_it_does_not_hold_is_refused(words: str, data: bytes) -> None:
    with pytest.raises(CodecError, match=words):
        decode(data)
    tracemalloc.start()
    try:
        decode_and_check(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "facts",
    [b"[]", b"1", b"{", b'{"a": 1}', b'{"a":1,"a":2}', b'{"b":1,"a":2}', b'{"a":NaN}',
     b'{"a":1e999}', b"[" * 100_000, b'{"a":' * 100_000, b'{"a":' + b"9" * 5000 + b"}", b"\xff",
     '{"a":"ü"}'.encode()],
)  # fmt: skip
def test_facts_that_are_not_spelled_as_they_are_written_are_refused(facts: bytes) -> None:
    with pytest.raises(CodecError, match="facts"):
        decode(file_of([], facts=facts))


def test_a_pickle_is_refused() -> None:
    with pytest.raises(CodecError, match="does not begin"):
        decode(pickle.dumps({"w": 1}))


def test_another_version_is_named() -> None:
    data = bytearray(whole_files()[0])
    data[4] = 2
    with pytest.raises(CodecError, match="format 2, and this version reads 1"):
        decode(bytes(data))


def test_the_memory_that_may_be_used_can_be_set() -> None:
    data = encode({"w": layer("few", 100, 100)}, facts={}, index_bits=5, entropy="fixed")
    needed = 100 * 100 * (4 + 1 + 1) + 16 * 4
    assert decode(data, max_bytes=needed)
    with pytest.raises(CodecError, match="allow more"):
        decode(data, max_bytes=needed - 1)


def test_refusals_are_usage_errors() -> None:
    assert issubclass(CodecError, UsageError)
    assert CodecError.exit_code == 2


def test_a_file_of_many_small_streams_takes_less_than_a_second() -> None:
    """Of all files of their size, those with the most streams take longest."""
    layers = {f"l{i}": layer("all", 1, 100, k=16, seed=i, skew=8.0) for i in range(1500)}
    data = encode(layers, facts={}, index_bits=5, entropy="huffman")
    assert 100_000 < len(data) < 200_000
    started = time.process_time()
    decode(data)
    assert time.process_time() - started < MOST_SECONDS


@pytest.mark.parametrize(
    ("kind", "size", "k", "skew"),
    [("all", 2_400_000, 2, 1.0), ("all", 2_300_000, 2, 60.0), ("some", 1_200_000, 2, 1.0),
     ("few", 6_000_000, 4, 1.0)],
)  # fmt: skip
@pytest.mark.parametrize("entropy", ["fixed", "huffman"])
def test_the_densest_files_of_some_hundred_kilobytes_stay_below_the_limit(
    kind: str, size: int, k: int, skew: float, entropy: str
) -> None:
    content = {"w": layer(kind, 1, size, k=k, skew=skew)}
    data = encode(content, facts={}, index_bits=5, entropy=entropy)  # type: ignore[arg-type]
    assert 100_000 < len(data) < 400_000
    del content
    tracemalloc.start()
    try:
        decode(data)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


def test_facts_come_back_as_json_reads_them() -> None:
    facts = {"n": None, "b": True, "i": 2**70, "f": 0.1, "s": "\ud800 ü", "l": [[], {}], "z": -0.0}
    decoded = decode(encode({}, facts=facts, index_bits=5, entropy="fixed")).facts
    assert decoded == json.loads(json.dumps(facts))
    assert math.copysign(1, decoded["z"]) == -1  # type: ignore[arg-type]
