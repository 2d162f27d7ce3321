"""A network as a Deep Compression file: written, read back, and what it decodes to is measured."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from bench.errors import TrialFailed
from bench.graph.structure import Layout
from bench.measure.codec import JSON, Entropy, Shared, decode, encode, sizes
from bench.measure.codec.shared_weights import MOST_VALUES
from bench.store.atomic import whole_file
from bench.store.records import FileColumns, TensorBytes
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
) -> FileColumns:
    """Write a network with fixed widths and with Huffman codes, and load what the latter decodes to.

    Raises:
        TrialFailed: a file does not decode to the network it was made of.
    """
    content = content_of(model, layout, masks, index_bits)
    for entropy, name in FILES.items():
        data = encode(content, facts=facts, index_bits=index_bits, entropy=entropy)
        with whole_file(folder / name) as part:
            part.write_bytes(data)
    columns = file_columns(folder, model.state_dict())
    load_model(model, decode((folder / FILES["huffman"]).read_bytes()).tensors)
    return columns


def file_columns(folder: Path, state: Mapping[str, Tensor]) -> FileColumns:
    """Return the sizes of a network's two files, which must decode to its state.

    Raises:
        TrialFailed: a file does not decode to it.
        CodecError: it is no sound file.
    """
    dense = 4 * sum(tensor.numel() for tensor in state.values())
    found: dict[Entropy, list[TensorBytes]] = {}
    bytes_of: dict[Entropy, int] = {}
    for entropy, name in FILES.items():
        data = (folder / name).read_bytes()
        decoded = decode(data).tensors
        for tensor_name, tensor in state.items():
            if not torch.equal(decoded.get(tensor_name, torch.empty(0)), tensor.cpu()):
                raise TrialFailed(f"{name} does not decode to the network's {tensor_name!r}")
        found[entropy] = [TensorBytes(**asdict(row)) for row in sizes(data)]
        bytes_of[entropy] = len(data)
    return FileColumns(
        file_bytes_dense=dense,
        file_bytes=bytes_of["huffman"],
        file_bytes_fixed=bytes_of["fixed"],
        file_compression=dense / bytes_of["huffman"],
        file_compression_fixed=dense / bytes_of["fixed"],
        file_layers=found["huffman"],
        file_layers_fixed=found["fixed"],
    )


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
