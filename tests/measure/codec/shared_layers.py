"""Shared layers to encode, drawn from a seed."""

import numpy as np
import torch
from torch import Tensor

from bench.measure.codec import Shared

MASKS = ("some", "few", "all", "none", "first", "last", "rows", "far")


def mask_of(kind: str, rows: int, columns: int, draw: np.random.Generator) -> np.ndarray:
    """Return (rows, columns), bool."""
    size = rows * columns
    mask = draw.random((rows, columns)) < {"some": 0.5, "few": 0.03, "all": 1.0}.get(kind, 0.0)
    flat = mask.reshape(-1)
    if size and kind == "first":
        flat[0] = True
    if size and kind == "last":
        flat[-1] = True
    if kind == "rows":  # some rows are empty
        mask = (draw.random((rows, 1)) < 0.5) & (draw.random((rows, columns)) < 0.6)
    if size and kind == "far":  # gaps beyond what any narrow index reaches
        flat[[0, size // 3, size - 1 - size // 4]] = True
    return mask


def layer(
    kind: str = "some",
    rows: int = 40,
    columns: int = 50,
    k: int = 16,
    seed: int = 0,
    skew: float = 1.0,
) -> Shared:
    """Return a layer; the larger the skew, the more often its low indices occur."""
    draw = np.random.default_rng(seed)
    mask = torch.from_numpy(mask_of(kind, rows, columns, draw))
    indices = (k * draw.random((rows, columns)) ** skew).astype(np.int64)
    codebook = torch.from_numpy(draw.normal(size=k).astype(np.float32))
    if k > 1:
        codebook[draw.integers(k)] = 0.0  # a kept weight may be 0.0
    assignment = torch.from_numpy(indices).to(torch.uint8 if k <= 256 else torch.int32)
    return Shared((rows, columns), codebook, assignment, mask)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit: -0.0 is not 0.0, and a NaN is itself."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if not a.numel():
        return True
    first, second = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(first, second)
