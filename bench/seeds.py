"""Every random number comes from (seed, purpose): nothing is stored, nobody shifts anybody's stream."""

import hashlib
import random

import numpy as np
import torch


def derive(seed: int, *purpose: str | int) -> int:
    """Return a 63-bit number that depends on the seed and the purpose alone."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def seed_globally(number: int) -> None:
    """Set the global generators of torch, NumPy and Python."""
    torch.manual_seed(number)
    np.random.seed(number % 2**32)  # noqa: NPY002 - it is what others draw from
    random.seed(number)


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for one purpose; the same arguments give the same stream."""
    return torch.Generator().manual_seed(derive(seed, *purpose))
