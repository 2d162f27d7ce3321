"""A network as a Deep Compression file: written, read back, and what it decodes to is measured."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.measure.codec import JSON, Entropy, Shared, decode, encode, sizes
from bench.measure.codec.shared_weights import MOST_VALUES
from bench.store.atomic import whole_file
from bench.training.loop import load_model

FILES: dict[Entropy, str] = {"fixed": "model-fixed.dc", "huffman": "model.dc"}


def content_of(
    model: nn.Module, layout: Layout, masks: Mapping[str, Tensor], index_bits: int
) -> dict[str, Tensor | Shared]:
    """Return every tensor of a network; layers whose kept weights share few values as such.

    Dropped weights must be zero.
    """
    content: dict[str, Tensor | Shared] = {}
    for name, tensor in model.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        shared = None
        if name in layout.weights and value.dtype == torch.float32:
            shared = _shared(value, masks.get(name), index_bits)
        content[name] = value if shared is None else shared
    return content


def through_files(
    folder: Path,
    model: nn.Module,
    layout: Layout,
    masks: Mapping[str, Tensor],
    index_bits: int,
    facts: dict[str, JSON],
) -> dict[str, Any]:
    """Write a network with fixed widths and with Huffman codes, and load what the latter decodes to.

    Returns:
        The sizes of the files as columns, and by layer.

    Raises:
        TrialFailed: a file does not decode to the network it was made of.
    """
    content = content_of(model, layout, masks, index_bits)
    dense = 4 * sum(tensor.numel() for tensor in model.state_dict().values())
    columns: dict[str, Any] = {"file_bytes_dense": dense}
    for entropy, name in FILES.items():
        data = encode(content, facts=facts, index_bits=index_bits, entropy=entropy)
        with whole_file(folder / name) as part:
            part.write_bytes(data)
        decoded = decode((folder / name).read_bytes()).tensors
        for tensor_name, tensor in model.state_dict().items():
            if not torch.equal(decoded[tensor_name], tensor.cpu()):
                raise TrialFailed(f"{name} does not decode to the network's {tensor_name!r}")
        load_model(model, decoded)
        ending = "_fixed" if entropy == "fixed" else ""
        size = (folder / name).stat().st_size
        columns |= {f"file_bytes{ending}": size, f"file_compression{ending}": dense / size,
                    f"file_layers{ending}": [asdict(row) for row in sizes(data)]}  # fmt: skip
    return columns


def _shared(weight: Tensor, mask: Tensor | None, index_bits: int) -> Shared | None:
    """Return a layer as codebook and assignment; None where that takes more than the weights themselves."""
    kept = torch.ones_like(weight, dtype=torch.bool) if mask is None else mask.cpu()
    codebook, places = torch.unique(weight[kept], return_inverse=True)
    bits = (len(codebook).bit_length() + index_bits) * int(kept.sum())
    if len(codebook) > MOST_VALUES or 4 * len(codebook) + bits / 8 > 4 * weight.numel():
        return None
    assignment = torch.zeros(weight.shape, dtype=torch.int64)
    assignment[kept] = places
    return Shared(tuple(weight.shape), codebook, assignment, kept)
