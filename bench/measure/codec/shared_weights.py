"""A layer whose weights are few values many times over, some weights dropped."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.measure.codec.bits import Symbols
from bench.measure.codec.reading import CodecError
from bench.measure.codec.relative_index import Positions

MOST_VALUES = 1 << 16  # entries of a codebook


@dataclass(frozen=True)
class Shared:
    """One layer's weights after sharing (Han, Mao & Dally, ICLR 2016, sec. 3).

    Attributes:
        shape: of the weights.
        codebook: (k,) float32, the shared values, in any order; k up to 65,536.
        assignment: of `shape`, integers; the index of each kept weight's value in the codebook.
            What it holds where weights were dropped is not kept.
        mask: of `shape`, bool; True where a weight was kept, whatever its value.
    """

    shape: tuple[int, ...]
    codebook: Tensor
    assignment: Tensor
    mask: Tensor

    def dense(self) -> Tensor:
        """Return the weights: float32 of `shape`, 0.0 where they were dropped."""
        weights = torch.zeros(self.shape, dtype=torch.float32)
        mask = self.mask.cpu()
        weights[mask] = self.codebook.detach().cpu()[self.assignment.cpu()[mask].long()]
        return weights

    def kept(self, name: str) -> tuple[Positions, Symbols]:
        """Return where weights were kept, in C order, and the index of each one's value.

        Raises:
            CodecError: the four fields do not fit together.
        """
        self._check(name)
        mask = self.mask.detach().cpu().reshape(-1).numpy()
        positions = np.flatnonzero(mask).astype(np.int64)
        assignment = self.assignment.detach().cpu().reshape(-1).numpy()
        symbols = assignment[positions]
        k = len(self.codebook)
        if len(symbols) and not 0 <= int(symbols.min()) <= int(symbols.max()) < k:
            raise CodecError(
                f"Layer {name!r} assigns a kept weight to a value outside its codebook of {k}; "
                f"indices go from 0 to {k - 1}"
            )
        return positions, symbols.astype(np.int32)

    def _check(self, name: str) -> None:
        book, indices = self.codebook, self.assignment
        if book.dim() != 1 or book.dtype != torch.float32 or len(book) > MOST_VALUES:
            raise CodecError(
                f"Layer {name!r} has a codebook of {book.dtype} and shape {tuple(book.shape)}; it "
                f"must be float32 of shape (k,), k up to {MOST_VALUES}"
            )
        if indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool:
            raise CodecError(f"Layer {name!r} assigns by {indices.dtype}; indices are integers")
        if self.mask.dtype != torch.bool:
            raise CodecError(f"Layer {name!r} has a mask of {self.mask.dtype}; masks are bool")
        for what, tensor in (("assignment", indices), ("mask", self.mask)):
            if tuple(tensor.shape) != tuple(self.shape):
                raise CodecError(
                    f"Layer {name!r} has an {what} of shape {tuple(tensor.shape)} for weights of "
                    f"shape {tuple(self.shape)}; both must be the same".replace("an mask", "a mask")
                )
