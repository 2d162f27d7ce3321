"""Linear layers on sparse kernels: what zeros inside a layer can gain where torch has such a kernel."""

import copy
import warnings

from torch import Tensor, nn


class SparseLinear(nn.Module):
    """A linear layer whose weight is stored by rows of its non-zeros (CSR)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch calls its CSR support a beta
            self.weight = layer.weight.detach().to_sparse_csr()
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Map images (b, inputs) to outputs (b, outputs)."""
        product = (self.weight @ x.T).T
        return product if self.bias is None else product + self.bias


def with_sparse_linear(network: nn.Module) -> nn.Module | None:
    """Return a copy with sparse linear layers; None where none of them has enough zeros.

    On CPUs torch has a sparse kernel for linear layers only, not for convolutions.
    """
    made = copy.deepcopy(network)
    replaced = 0
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear) and float((module.weight == 0).float().mean()) >= 0.5:
            parent, _, own = name.rpartition(".")
            setattr(made.get_submodule(parent), own, SparseLinear(module))
            replaced += 1
    return made if replaced else None
