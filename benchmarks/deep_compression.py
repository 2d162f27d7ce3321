"""Deep Compression's two kernels: k-means against scikit-learn's, the codec against a plain loop.

    python benchmarks/deep_compression.py

Both k-means begin at the same centroids. Theirs makes `--iterations` iterations at most; ours goes on
until no assignment changes, as it does in every trial. That ours ends no worse is a bound, too; where
both stop after the same number of iterations is only said. The loop codes and decodes the same layer,
symbol by symbol, into the same bits, which is checked. Speeds of the codec are in MB of dense
float32 weights.
"""

import argparse
import warnings
from typing import Any

import numpy as np
import torch
from findings import Bound, Report, measured, options, run_script, settings_of
from interleaved import Rounds, Spread, Variant, repeated
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from bench.measure.codec import Shared, decode, encode
from bench.measure.codec.huffman import canonical_codes, code_lengths
from bench.methods._kmeans import TO_THE_END, first_centroids, kmeans

SEED = 0
INDEX_BITS = 5
DENSITY = 0.08
FASTER_KMEANS, MANY_ITERATIONS = 50.0, 100
FASTER_ENCODING, FASTER_DECODING = 4.0, 10.0
NO_WORSE = 1 + 1e-9  # our centroids are float32 in the end, those of scikit-learn float64


def pruned_weights(n: int) -> Tensor:
    """Return (n,) normal weights without those near zero: a linear start finds a hole there."""
    draw = torch.Generator().manual_seed(SEED)
    size = torch.randn(n, generator=draw).abs() + 0.3
    return size * (torch.randint(0, 2, (n,), generator=draw) * 2 - 1)


def inertia(values: Tensor, centroids: Tensor, assignment: Tensor) -> float:
    return float(((values.double() - centroids.double()[assignment.long()]) ** 2).sum())


def fit(column: Any, first: Tensor, iterations: int) -> KMeans:
    """Run scikit-learn's k-means; it computes in the type of the numbers it is given."""
    start = first.numpy()[:, None].astype(column.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return KMeans(
            len(first), init=start, n_init=1, tol=0.0, max_iter=iterations, algorithm="lloyd"
        ).fit(column)


def compare_kmeans(n: int, iterations: int, given: argparse.Namespace, report: Report) -> None:
    values = pruned_weights(n)
    first = first_centroids(values, given.clusters, "linear")
    column = values.numpy()[:, None]
    variants = [
        repeated("ours", lambda: kmeans(values, given.clusters, first), 1),
        Variant("scikit-learn", lambda: fit(column, first, iterations)),
    ]
    rounds = measured(variants, given)
    title = f"k-means, {n:,} weights, {given.clusters} clusters, theirs {iterations} iterations"
    report.speeds(title, rounds, "")
    # Ours is mostly the sort: with few iterations there is little to save.
    bound = Bound(">=", FASTER_KMEANS) if iterations >= MANY_ITERATIONS else None
    report.ratio(f"{title}: ours is faster than scikit-learn, times", rounds,
                 "scikit-learn", "ours", bound)  # fmt: skip
    compare_inertia(values, first, iterations, title, rounds, report)


def compare_inertia(
    values: Tensor, first: Tensor, iterations: int, title: str, rounds: Rounds, report: Report
) -> None:
    """Compare where both end; scikit-learn in float32, as timed, and in float64, as ours sums."""
    found, stopped = (kmeans(values, len(first), first, n) for n in (TO_THE_END, iterations))
    ours, ours_stopped = (inertia(values, f.centroids, f.assignment) for f in (found, stopped))
    for column in (values.numpy()[:, None], values.double().numpy()[:, None]):
        theirs = fit(column, first, iterations)
        centroids = torch.from_numpy(theirs.cluster_centers_[:, 0])
        end = inertia(values, centroids, torch.from_numpy(theirs.labels_))
        ratio = ours / end
        report.note(
            f"  {found.iterations} and {theirs.n_iter_} iterations; ours stopped with theirs:"
            f" {ours_stopped / end - 1:+.1e} of theirs"
        )
        name = f"{title}: our inertia over that of scikit-learn in {column.dtype}"
        report.add(name, rounds, Spread(ratio, ratio, ratio), Bound("<=", NO_WORSE))


def layer_of(n: int, k: int) -> Shared:
    """Return a layer (n,) of which 8 % were kept, its values distributed as trained ones are."""
    draw = np.random.default_rng(SEED)
    mask = torch.from_numpy(draw.random(n) < DENSITY)
    indices = np.clip(draw.normal(k / 2, k / 6, n), 0, k - 1).astype(np.uint8)
    return Shared((n,), torch.linspace(-1, 1, k), torch.from_numpy(indices), mask)


class Loop:
    """The same coding by the book, one weight after the other."""

    def __init__(self, shared: Shared) -> None:
        self.shared, self.n = shared, shared.shape[0]
        self.codebook = shared.codebook.tolist()
        steps, values = self.symbols()
        self.kept = len(values)
        self.step_codes = self.codes(steps, (1 << INDEX_BITS) + 1)
        self.value_codes = self.codes(values, len(self.codebook))

    @staticmethod
    def codes(symbols: list[int], alphabet: int) -> list[str]:
        lengths = code_lengths(np.bincount(symbols, minlength=alphabet))
        both = zip(canonical_codes(lengths).tolist(), lengths.tolist(), strict=True)
        return [f"{code:0{length}b}" if length else "" for code, length in both]

    def symbols(self) -> tuple[list[int], list[int]]:
        reach = 1 << INDEX_BITS
        steps, values, last = [], [], -1
        assignment = self.shared.assignment.tolist()
        for position, is_kept in enumerate(self.shared.mask.tolist()):
            if is_kept:
                step = position - last
                while step > reach:
                    steps.append(reach)
                    step -= reach
                steps.append(step - 1)
                values.append(assignment[position])
                last = position
        return steps, values

    def encode(self) -> tuple[bytes, bytes]:
        steps, values = self.symbols()
        return (
            self.packed("".join([self.step_codes[s] for s in steps])),
            self.packed("".join([self.value_codes[s] for s in values])),
        )

    @staticmethod
    def packed(bits: str) -> bytes:
        bits += "0" * (-len(bits) % 8)
        return int(bits, 2).to_bytes(len(bits) // 8, "big")

    @staticmethod
    def unpacked(data: bytes, codes: list[str]) -> list[int]:
        symbol_of = {code: symbol for symbol, code in enumerate(codes) if code}
        symbols, code = [], ""
        for bit in "".join([f"{octet:08b}" for octet in data]):
            code += bit
            if code in symbol_of:
                symbols.append(symbol_of[code])
                code = ""
        return symbols

    def decode(self, steps: bytes, values: bytes) -> Tensor:
        weights = [0.0] * self.n
        symbols = iter(self.unpacked(values, self.value_codes))
        position = -1
        left = self.kept  # zeros that fill the last byte may read as another code
        for step in self.unpacked(steps, self.step_codes):
            position += min(step + 1, 1 << INDEX_BITS)
            if left and step < 1 << INDEX_BITS:
                weights[position] = self.codebook[next(symbols)]
                left -= 1
        return torch.tensor(weights)


def compare_codec(n: int, given: argparse.Namespace, report: Report) -> None:
    shared = layer_of(n, given.clusters)
    content = {"weight": shared}
    megabytes = 4 * n / 1e6

    def write() -> bytes:
        return encode(content, facts={}, index_bits=INDEX_BITS, entropy="huffman")

    data = write()
    assert torch.equal(decode(data).tensors["weight"], shared.dense())
    writers = [repeated("ours", write, megabytes)]
    readers = [repeated("ours", lambda: decode(data), megabytes)]
    if n <= given.loop_up_to:
        loop = Loop(shared)
        steps, values = loop.encode()
        assert steps in data and values in data, "the two sides write different bits"
        assert torch.equal(loop.decode(steps, values), shared.dense())
        writers.append(repeated("plain loop", loop.encode, megabytes))
        readers.append(repeated("plain loop", lambda: loop.decode(steps, values), megabytes))
    share = f"{n:,} weights, {DENSITY:.0%} kept, {len(data):,} bytes"
    for title, variants, bound in (
        (f"encoding {share}", writers, FASTER_ENCODING),
        (f"decoding {share}", readers, FASTER_DECODING),
    ):
        rounds = measured(variants, given)
        report.speeds(title, rounds, "MB")
        against_loop(title, rounds, bound, report)


def against_loop(title: str, rounds: Rounds, bound: float, report: Report) -> None:
    if "plain loop" in rounds.units:
        name = f"{title}: ours is faster than a plain loop, times"
        report.ratio(name, rounds, "plain loop", "ours", Bound(">=", bound))


def main() -> int:
    parser = options(__doc__, rounds=5)
    parser.add_argument("--weights", type=int, nargs="+", default=[400_000, 10_000_000],
                        metavar="N", help="[default: %(default)s]")  # fmt: skip
    parser.add_argument("--iterations", type=int, nargs="+", default=[300, 10], metavar="N",
                        help="of scikit-learn's, for each of --weights  [default: %(default)s]")  # fmt: skip
    parser.add_argument("--clusters", type=int, default=32, help="[default: %(default)s]")
    parser.add_argument("--loop-up-to", type=int, default=400_000, metavar="N",
                        help="the loop is not run on more weights  [default: %(default)s]")  # fmt: skip
    parser.add_argument("--threads", type=int, default=1, help="[default: %(default)s]")
    given = parser.parse_args()
    if len(given.iterations) != len(given.weights):
        parser.error("--iterations needs one number for each of --weights")
    torch.set_num_threads(given.threads)
    report = Report("deep_compression", settings_of(given))
    with threadpool_limits(given.threads):
        for n in given.weights:
            compare_codec(n, given, report)
        for n, iterations in zip(given.weights, given.iterations, strict=True):
            compare_kmeans(n, iterations, given, report)
    return report.end(given.json)


if __name__ == "__main__":
    run_script(main)
