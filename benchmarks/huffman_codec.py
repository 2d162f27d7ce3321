"""Huffman streams of Deep Compression's files: our coding in numpy against bitarray's in C.

    python benchmarks/huffman_codec.py

Both sides write the same bits with the same codes, and read the same symbols, which is checked.
bitarray has two readers: by canonical code, and by a tree that is made for each stream. Its codes can
be of any length, those of a file at most 12 bits, so that the lengths are ours on both sides. The
streams are a layer's positions and values, a stream of codes of a bit or two, and many short streams
with the largest table that a file may hold, as somebody may send to make a reader slow.

bitarray is no dependency of ours: where it is missing, our own speeds are printed alone.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
from findings import Report, measured, options, run_script, settings_of
from interleaved import Meter, Variant, repeated

from bench.measure.codec.bits import octets
from bench.measure.codec.huffman import LONGEST, canonical_codes, canonical_order, code_lengths
from bench.measure.codec.reading import reader_of
from bench.measure.codec.relative_index import entries, gaps_of
from bench.measure.codec.stream import huffman, read_huffman

SEED = 0
BITS = 5  # of an index, of a position and of a value

# Both sides work on one thread: its CPU time is less disturbed by neighbours than elapsed time.
ONE_THREAD = Meter(cost_seconds=time.process_time)

Symbols = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Stream:
    """Symbols to be coded, `repeats` times in turn, each below `alphabet`."""

    name: str
    symbols: Symbols
    alphabet: int
    repeats: int = 1

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        return np.bincount(self.symbols, minlength=self.alphabet)


def streams(n: int, density: float) -> list[Stream]:
    """Return the streams of a layer of n weights, its values distributed as trained ones are."""
    draw = np.random.default_rng(SEED)
    gaps = gaps_of(np.flatnonzero(draw.random(n) < density))
    k = 1 << BITS
    values = np.clip(draw.normal(k / 2, k / 6, len(gaps)), 0, k - 1).astype(np.int32)
    short = (4 * draw.random(len(gaps)) ** 6).astype(np.int32)
    most = 1 << LONGEST
    return [
        Stream("positions", entries(gaps, BITS), k + 1),
        Stream("values", values, k),
        Stream("codes of a bit or two", short, 4),
        Stream("10 tables of 4,096 codes", np.arange(most, dtype=np.int32), most, 10),
    ]


class Peer:
    """bitarray with our lengths of codes."""

    def __init__(self) -> None:
        import bitarray
        from bitarray.util import canonical_decode, int2ba

        self.bitarray, self.decodetree = bitarray.bitarray, bitarray.decodetree
        self.canonical_decode, self.int2ba = canonical_decode, int2ba

    def codes(self, lengths: npt.NDArray[np.uint8]) -> dict[int, Any]:
        order = canonical_order(lengths)
        numbers, widths = canonical_codes(lengths)[order].tolist(), lengths[order].tolist()
        return dict(zip(order.tolist(), map(self.int2ba, numbers, widths), strict=True))

    def write(self, stream: Stream) -> bytes:
        out = self.bitarray(endian="big")
        out.encode(self.codes(code_lengths(stream.counts)), stream.symbols.tolist())
        return bytes(out.tobytes())

    def read_canonical(
        self, data: bytes, lengths: npt.NDArray[np.uint8], n_bits: int, count: int
    ) -> Symbols:
        order = canonical_order(lengths)
        bits = self.bitarray(buffer=data, endian="big")[:n_bits]
        found = self.canonical_decode(bits, np.bincount(lengths[order]).tolist(), order.tolist())
        return np.fromiter(found, np.int32, count)

    def read_tree(
        self, data: bytes, lengths: npt.NDArray[np.uint8], n_bits: int, count: int
    ) -> Symbols:
        bits = self.bitarray(buffer=data, endian="big")[:n_bits]
        return np.fromiter(bits.decode(self.decodetree(self.codes(lengths))), np.int32, count)


def compare(stream: Stream, peer: Peer | None, given: argparse.Namespace, report: Report) -> None:
    lengths = code_lengths(stream.counts)
    count = len(stream.symbols)
    n_bits = int(lengths[stream.symbols].sum(dtype=np.int64))
    coded = huffman(stream.symbols, stream.alphabet)
    assert coded is not None and len(coded.codes) == octets(n_bits)
    whole = coded.tables + coded.codes

    def read() -> Symbols:
        return read_huffman(reader_of(whole), count, stream.alphabet, stream.name)[0]

    def variant(name: str, once: Callable[[], object]) -> Variant:
        def work() -> None:
            for _ in range(stream.repeats):
                once()

        return repeated(name, work, stream.repeats * count / 1e6)

    writers = [variant("ours", lambda: huffman(stream.symbols, stream.alphabet))]
    readers = [variant("ours", read)]
    if peer is not None:
        assert peer.write(stream) == coded.codes, "the two sides write different bits"
        writers.append(variant("bitarray", lambda: peer.write(stream)))
        for name, reader in (("canonical", peer.read_canonical), ("tree", peer.read_tree)):
            found = reader(coded.codes, lengths, n_bits, count)
            assert np.array_equal(found, stream.symbols) and np.array_equal(found, read())
            theirs = (coded.codes, lengths, n_bits, count)
            readers.append(
                variant(f"bitarray, {name}", lambda reader=reader, theirs=theirs: reader(*theirs))
            )
    for verb, variants in (("encoding", writers), ("decoding", readers)):
        title = f"{verb} {stream.name}, {count:,} symbols of {n_bits / count:.1f} bits"
        rounds = measured(variants, given, ONE_THREAD)
        report.speeds(title, rounds, "million symbols")
        for other in variants[1:]:
            name = f"{title}: ours is faster than {other.name}, times"
            report.ratio(name, rounds, other.name, "ours")


def main() -> int:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--weights", type=int, default=4096 * 4096, metavar="N",
                        help="of the layer  [default: %(default)s]")  # fmt: skip
    parser.add_argument("--density", type=float, default=0.04, metavar="SHARE",
                        help="of weights that were kept  [default: %(default)s]")  # fmt: skip
    given = parser.parse_args()
    report = Report("huffman_codec", settings_of(given))
    peer = Peer() if find_spec("bitarray") else None
    if peer is None:
        report.note(
            "bitarray is not installed, so there is nothing to compare with; pip install it"
        )
    for stream in streams(given.weights, given.density):
        compare(stream, peer, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
