"""Huffman streams of Deep Compression's files: our writer in numpy against bitarray's in C.

    python benchmarks/huffman_codec.py

Our reader is bitarray's for canonical codes, with checks around it; it is held against bitarray's
other one, by a tree that is made for each stream. Both sides write the same bits with the same codes
and read the same symbols, which is checked. bitarray's own codes can be of any length, those of a
file at most 12 bits, so that the lengths are ours on both sides. The streams are a layer's positions
and values, a stream of codes of a bit or two, and short streams with the largest table that a file
may hold, as somebody may send to make a reader slow.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from bitarray import bitarray, decodetree
from bitarray.util import int2ba
from findings import Report, measured, options, run_script, settings_of
from interleaved import Meter, Variant, repeated

from bench.measure.codec.huffman import LONGEST, canonical_codes, canonical_order, code_lengths
from bench.measure.codec.reading import reader_of
from bench.measure.codec.relative_index import entries, gaps_of
from bench.measure.codec.stream import huffman, read_huffman

SEED = 0
BITS = 5  # of an index, of a position and of a value

# Both sides work on one thread: its CPU time is less disturbed by neighbours than elapsed time.
ONE_THREAD = Meter(cost_seconds=time.process_time)

Symbols = npt.NDArray[np.int32]
Lengths = npt.NDArray[np.uint8]


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


def codes_of(lengths: Lengths) -> dict[int, bitarray]:
    order = canonical_order(lengths)
    numbers, widths = canonical_codes(lengths)[order].tolist(), lengths[order].tolist()
    return dict(zip(order.tolist(), map(int2ba, numbers, widths), strict=True))


def write(stream: Stream) -> bytes:
    """Write a stream with bitarray."""
    out = bitarray(endian="big")
    out.encode(codes_of(code_lengths(stream.counts)), stream.symbols.tolist())
    return out.tobytes()


def read_by_tree(data: bytes, lengths: Lengths, n_bits: int, count: int) -> Symbols:
    """Read a stream with bitarray's tree."""
    bits = bitarray(buffer=data, endian="big")[:n_bits]
    return np.fromiter(bits.decode(decodetree(codes_of(lengths))), np.int32, count)


def compare(stream: Stream, given: argparse.Namespace, report: Report) -> None:
    lengths = code_lengths(stream.counts)
    count = len(stream.symbols)
    n_bits = int(lengths[stream.symbols].sum(dtype=np.int64))
    coded = huffman(stream.symbols, stream.alphabet)
    assert coded is not None and coded.codes == write(stream), "the two sides write different bits"
    whole = coded.tables + coded.codes

    def read() -> Symbols:
        return read_huffman(reader_of(whole), count, stream.alphabet, stream.name)[0]

    def read_theirs() -> Symbols:
        return read_by_tree(coded.codes, lengths, n_bits, count)

    assert np.array_equal(read(), stream.symbols) and np.array_equal(read_theirs(), stream.symbols)

    def variant(name: str, once: Callable[[], object]) -> Variant:
        def work() -> None:
            for _ in range(stream.repeats):
                once()

        return repeated(name, work, stream.repeats * count / 1e6)

    writers = [variant("ours", lambda: huffman(stream.symbols, stream.alphabet)),
               variant("bitarray's", lambda: write(stream))]  # fmt: skip
    readers = [variant("ours", read), variant("bitarray's tree", read_theirs)]
    for verb, variants in (("encoding", writers), ("decoding", readers)):
        title = f"{verb} {stream.name}, {count:,} symbols of {n_bits / count:.1f} bits"
        rounds = measured(variants, given, ONE_THREAD)
        report.speeds(title, rounds, "million symbols")
        other = variants[1].name
        report.ratio(f"{title}: ours is faster than {other}, times", rounds, other, "ours")


def main() -> int:
    parser = options(__doc__, rounds=9)
    parser.add_argument("--weights", type=int, default=4096 * 4096, metavar="N",
                        help="of the layer  [default: %(default)s]")  # fmt: skip
    parser.add_argument("--density", type=float, default=0.04, metavar="SHARE",
                        help="of weights that were kept  [default: %(default)s]")  # fmt: skip
    given = parser.parse_args()
    report = Report("huffman_codec", settings_of(given))
    for stream in streams(given.weights, given.density):
        compare(stream, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
