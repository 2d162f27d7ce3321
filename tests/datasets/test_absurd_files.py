"""Files of MNIST and CIFAR that state sizes which they do not have, or are no files at all."""

import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.datasets._tables import NotATable, read_table
from bench.datasets.cifar import Cifar10
from bench.datasets.mnist import Mnist
from bench.errors import DataDamaged, DataMissing


def idx(*sizes: int, data: bytes = b"") -> bytes:
    return struct.pack(f">I{len(sizes)}I", 0x800 | len(sizes), *sizes) + data


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, n in (("train", 40), ("t10k", 10)):
        pixels, labels = bytes(n * 28 * 28), bytes(i % 10 for i in range(n))
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx(n, 28, 28, data=pixels))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx(n, data=labels))
    return raw


def frugal(load: Callable[[], object]) -> None:
    """Run what must neither take long nor allocate what a file asks for."""
    tracemalloc.start()
    start = time.monotonic()
    try:
        load()
    finally:
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
        tracemalloc.stop()
        assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    "sizes", [(2**31, 2**31, 4), (2**31, 2**31, 2**31), (2**32 - 1,) * 3, (0, 28, 28), (2**30, 28, 28)]
)  # fmt: skip
def test_an_idx_file_is_believed_only_as_far_as_its_size(raw: Path, sizes: tuple[int, ...]) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(idx(*sizes, data=bytes(16)))
    with pytest.raises(DataDamaged, match="is damaged"):
        frugal(lambda: Mnist().load(raw.parents[1]))


def test_an_idx_file_of_many_empty_bytes_is_refused_unread(raw: Path) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(idx(2**30, 28, 28))
    try:
        os.truncate(path, 16 + 2**30 * 28 * 28)
    except OSError:
        pytest.skip("this file system has no such files")
    with pytest.raises(DataDamaged, match="at most 1000000 images"):
        frugal(lambda: Mnist().load(raw.parents[1]))


def test_other_than_files_in_the_place_of_data_are_named_at_once(raw: Path) -> None:
    path = raw / "train-images-idx3-ubyte"
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(b"")
    with pytest.raises(DataMissing, match=r"unpack train-images-idx3-ubyte\.gz"):
        Mnist().load(raw.parents[1])
    os.mkfifo(path)
    with pytest.raises(DataDamaged, match="named pipe"):
        Mnist().load(raw.parents[1])
    batch = raw.parents[1] / Cifar10.folder / Cifar10.train_files[0]
    batch.parent.mkdir()
    batch.symlink_to("/dev/zero")
    with pytest.raises(DataDamaged, match="is a device"):
        Cifar10().load(raw.parents[1])


def shared_tuples(depth: int) -> object:
    value: object = ()
    for _ in range(depth):
        value = (value, value)
    return value


ABSURD = {
    "a place in memory": b"\x80\x02}r\xff\xff\xff\xff]r\xfe\xff\xff\xff.",
    "a long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "a bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "deep lists": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    "a key that takes for ever to hash": pickle.dumps(shared_tuples(60), 2)[:-1].replace(
        b"\x80\x02", b"\x80\x02}", 1) + b"Ns.",
    "a text that takes for ever to write": b"\x80\x02c_codecs\nencode\n" + pickle.dumps(
        shared_tuples(60), 2)[2:-1] + b"\x85R.",
    "an object": b"\x80\x02cos\nsystem\n.",
    "an instance": b"(S'true'\nios\nsystem\n.",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("what", ABSURD)
def test_a_table_that_asks_for_too_much_is_refused_without_getting_it(what: str) -> None:
    with pytest.raises(NotATable):
        frugal(lambda: read_table(b"\x80\x02]" if what == "nothing" else ABSURD[what]))


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_table_is_what_python_reads_of_it(protocol: int) -> None:
    content = {
        b"labels": list(range(300)), "names": ["a", "é"], b"more": (1, (2, 3), {}, None, True, -5, 2**40),
    }  # fmt: skip
    read = read_table(pickle.dumps(content, protocol))
    names = {k.encode() if isinstance(k, str) else k: v for k, v in content.items()}
    assert read == names
    pixels = np.arange(6144, dtype=np.uint8).reshape(2, 3072)
    array = read_table(pickle.dumps({"data": pixels}, protocol))[b"data"] if protocol < 5 else None
    if array is not None:
        assert array.state[1] == (2, 3072) and array.state[4] == pixels.tobytes()
