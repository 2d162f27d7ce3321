"""Verification of MNIST and its successors against the content of the official files."""

import gzip
import hashlib
import struct
from pathlib import Path

import pytest

from bench.datasets import mnist
from bench.datasets.mnist import FashionMnist, KuzushijiMnist, Mnist
from bench.errors import DataDamaged

SETS = (Mnist, FashionMnist, KuzushijiMnist)


@pytest.fixture(params=SETS, ids=lambda kind: kind.name)
def dataset(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Mnist:
    """Small files that stand for the official ones: their number and digests are said to be known."""
    made: Mnist = request.param()
    monkeypatch.setattr(mnist, "_IMAGES", {"train": 40, "t10k": 20})
    known = mnist._KNOWN[made.folder]
    for path in made.files(tmp_path):
        n = 40 if path.name.startswith("train") else 20
        shape = (n, 28, 28) if "images" in path.name else (n,)
        head = struct.pack(f">{1 + len(shape)}I", 0x800 + len(shape), *shape)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(head + bytes(i % 10 for i in range(n * (784 if len(shape) > 1 else 1))))
    contents = {p.name: p.read_bytes() for p in made.files(tmp_path) if p.name in known}
    official = {name: hashlib.sha256(c).hexdigest() for name, c in contents.items()}
    monkeypatch.setitem(mnist._KNOWN, made.folder, official)
    return made


def test_official_files_are_good_and_one_changed_byte_is_named(
    dataset: Mnist, tmp_path: Path
) -> None:
    dataset.verify(tmp_path)
    path = tmp_path / dataset.folder / "raw" / "t10k-images-idx3-ubyte"
    content = bytearray(path.read_bytes())
    content[5000] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataDamaged, match="t10k-images-idx3-ubyte is not the official file"):
        dataset.verify(tmp_path)


def test_files_without_a_known_digest_are_held_against_their_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Mnist
) -> None:
    if not isinstance(dataset, KuzushijiMnist):
        assert dataset.verify(tmp_path) is None
        return
    from torchvision import datasets

    assert "no digest of the official content is known" in str(dataset.verify(tmp_path))
    resources = []
    for path in dataset.files(tmp_path):
        packed = gzip.compress(path.read_bytes())
        path.with_name(f"{path.name}.gz").write_bytes(packed)
        resources.append((f"{path.name}.gz", hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(datasets.KMNIST, "resources", resources)
    assert dataset.verify(tmp_path) is None
    labels = tmp_path / "KMNIST" / "raw" / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\3")
    with pytest.raises(DataDamaged, match="train-labels-idx1-ubyte is not the official file"):
        dataset.verify(tmp_path)


@pytest.mark.parametrize("kind", SETS, ids=lambda kind: kind.name)
def test_known_files_are_those_that_are_read(kind: type[Mnist], tmp_path: Path) -> None:
    known = mnist._KNOWN[kind.folder]
    assert set(known) <= {path.name for path in kind().files(tmp_path)}
    assert all(len(digest) == 64 for digest in known.values())
