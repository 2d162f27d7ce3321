"""Deep Compression's files: shared and pruned weights as bytes, decoded to the last bit.

Han, Mao & Dally, ICLR 2016 (arXiv 1510.00149).
"""

from bench.measure.codec.file import JSON, Decoded, Entropy, decode, encode, sizes
from bench.measure.codec.layer import IndexBits, LayerBytes
from bench.measure.codec.reading import CodecError
from bench.measure.codec.shared_weights import Shared

__all__ = [
    "JSON",
    "CodecError",
    "Decoded",
    "Entropy",
    "IndexBits",
    "LayerBytes",
    "Shared",
    "decode",
    "encode",
    "sizes",
]
