"""The content of a data set as one digest, and marks by which a later reader sees a change of it.

A digest is of labels and pixels, or of labels, relative names and the bytes of files; where the files lie
is no part of it. A mark costs no reading of files: it is of their names, labels, sizes and times.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from bench.data.images import AnyImages, ImageFiles, Images
from bench.data.splits import Split

# SHA-256 of each of the files with these names under a folder, in their order.
HashFiles = Callable[[Path, Sequence[str]], list[str]]


def digest_of_split(split: Split, classes: int, hash_files: HashFiles) -> str:
    """Return the digest of three parts, which is the same wherever they were loaded from."""
    parts = (split.train, split.validation, split.test)
    names: dict[Path, list[str]] = {}
    for images in (part for part in parts if isinstance(part, ImageFiles)):
        names.setdefault(images.root, []).extend(images.paths)
    # One pass over all files of a folder, and one bar that shows it.
    known = {root: dict(zip(n, hash_files(root, n), strict=True)) for root, n in names.items()}
    sha = hashlib.sha256(f"split\0{classes}\0".encode())
    for part in parts:
        if isinstance(part, ImageFiles):
            sha.update(_of_files(part, known[part.root]).encode())
        else:
            sha.update(_of_tensors(part).encode())
    return sha.hexdigest()


def digest_of_files(folder: Path, names: Sequence[str], hash_files: HashFiles) -> str:
    """Return the digest of files that hold a whole data set, labels and all."""
    sha = hashlib.sha256(b"files\0")
    for name, of_file in zip(names, hash_files(folder, names), strict=True):
        sha.update(_bytes(f"{of_file}\0{name}\0"))
    return sha.hexdigest()


def mark_of_part(images: AnyImages) -> str:
    """Return what tells a part from a changed one: of files names, labels, sizes and times."""
    if isinstance(images, Images):
        return _of_tensors(images)
    named = zip(images.paths, images.y.tolist(), strict=True)
    return _mark((f"{name}\0{label}", _join(images.root, name)) for name, label in named)


def mark_of_files(folder: Path, names: Sequence[str]) -> str:
    """Return a hash of the sizes and times of files, in their order."""
    return _mark((name, _join(folder, name)) for name in names)


def _join(folder: Path, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - there may be millions, and paths are slow to make


def _mark(named: Iterable[tuple[str, str]]) -> str:
    sha = hashlib.sha256()
    for name, path in named:
        try:
            facts = os.stat(path)  # noqa: PTH116
        except OSError:
            sha.update(_bytes(f"{name}\0missing\0"))
        else:
            sha.update(_bytes(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\0"))
    return sha.hexdigest()


def _of_tensors(images: Images) -> str:
    y = images.y if images.y.is_floating_point() else images.y.long()
    sha = hashlib.sha256(b"tensors\0")
    for tensor in (images.x, y):
        sha.update(f"{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(_buffer(tensor))
    return sha.hexdigest()


def _buffer(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().numpy().reshape(-1).view("uint8").data


def _of_files(images: ImageFiles, known: Mapping[str, str]) -> str:
    sha = hashlib.sha256(f"images\0{images.shape}\0".encode())
    for name, label in zip(images.paths, images.y.tolist(), strict=True):
        sha.update(_bytes(f"{label}\0{known[name]}\0{name}\0"))
    return sha.hexdigest()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # names of files may be any bytes
