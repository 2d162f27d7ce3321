"""CIFAR's pickles are read without running anything that is in them."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.datasets.cifar import Cifar10, Cifar100
from bench.errors import DataDamaged, DataMissing

N = 20
SETS = {Cifar10: (b"labels", 10), Cifar100: (b"fine_labels", 100)}


def batch(dataset: type[Cifar10], seed: int) -> dict[Any, Any]:
    key, classes = SETS[dataset]
    rng = np.random.default_rng(seed)
    return {
        b"data": rng.integers(256, size=(N, 3072), dtype=np.uint8),
        key: [int(v) for v in rng.integers(classes, size=N)],
        b"filenames": [f"{i}.png".encode() for i in range(N)],
        b"batch_label": b"training batch",
    }


@pytest.fixture(params=list(SETS))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Cifar10:
    """A small CIFAR in the test's folder, in the pickle protocol of the original."""
    kind: type[Cifar10] = request.param
    folder = tmp_path / kind.folder
    folder.mkdir()
    for seed, file in enumerate((*kind.train_files, kind.test_file)):
        (folder / file).write_bytes(pickle.dumps(batch(kind, seed), protocol=2))
    return kind()


def test_pixels_and_labels_are_those_of_the_files(dataset: Cifar10, tmp_path: Path) -> None:
    kind = type(dataset)
    split = dataset.load(tmp_path)
    n = N * len(kind.train_files)
    assert (len(split.train), len(split.validation), len(split.test)) == (n - n // 10, n // 10, N)
    test = batch(kind, len(kind.train_files))
    assert torch.equal(split.test.x, torch.from_numpy(test[b"data"]).view(-1, 3, 32, 32))
    assert split.test.y.tolist() == test[SETS[kind][0]]
    pairs = [
        (x.numpy().tobytes(), y) for part in (split.train, split.validation)
        for x, y in zip(part.x, part.y.tolist(), strict=True)
    ]  # fmt: skip
    batches = [batch(kind, seed) for seed in range(len(kind.train_files))]
    expected = [
        (row.tobytes(), label) for b in batches
        for row, label in zip(b[b"data"], b[SETS[kind][0]], strict=True)
    ]  # fmt: skip
    assert sorted(pairs) == sorted(expected)


def test_files_written_by_a_newer_python_are_read_too(dataset: Cifar10, tmp_path: Path) -> None:
    kind = type(dataset)
    before = dataset.load(tmp_path)
    path = tmp_path / kind.folder / kind.test_file
    named = {k.decode(): v for k, v in batch(kind, len(kind.train_files)).items()}
    path.write_bytes(pickle.dumps(named, protocol=4))
    assert torch.equal(dataset.load(tmp_path).test.x, before.test.x)


class Calls:
    """Unpickling it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_a_command_is_refused_and_runs_nothing(
    dataset: Cifar10, tmp_path: Path, protocol: int
) -> None:
    marker = tmp_path / "executed"
    touch = f"touch {marker}"
    path = tmp_path / dataset.folder / dataset.test_file
    good = batch(type(dataset), 0)
    for evil in (
        Calls(os.system, touch),
        Calls(eval, f"__import__('os').system({touch!r})"),
        Calls(np.fromfile, "/etc/passwd"),
        Calls(getattr, dict, "clear"),
    ):
        for content in (evil, good | {b"data": evil}, good | {b"more": [evil]}):
            path.write_bytes(pickle.dumps(content, protocol=protocol))
            with pytest.raises(DataDamaged) as refused:
                dataset.load(tmp_path)
            assert str(path) in str(refused.value)
            assert "\n" not in str(refused.value)
    assert not marker.exists()
    # The same file does run the command where it is trusted.
    path.write_bytes(pickle.dumps(Calls(os.system, touch), protocol=protocol))
    pickle.loads(path.read_bytes())
    assert marker.exists()


WRONG: dict[str, Any] = {
    "no dictionary": lambda b, key: [1, 2],
    "no pixels": lambda b, key: {key: b[key]},
    "no labels": lambda b, key: {b"data": b[b"data"]},
    "floats": lambda b, key: b | {b"data": b[b"data"].astype(np.float32)},
    "signed": lambda b, key: b | {b"data": b[b"data"].view(np.int8)},
    "objects": lambda b, key: b | {b"data": np.array([[1] * 3072] * N, dtype=object)},
    "too narrow": lambda b, key: b | {b"data": b[b"data"][:, :3000].copy()},
    "by columns": lambda b, key: b | {b"data": np.asfortranarray(b[b"data"])},
    "none": lambda b, key: b | {b"data": b[b"data"][:0]},
    "a list": lambda b, key: b | {b"data": b[b"data"].tolist()},
    "one label less": lambda b, key: b | {key: b[key][1:]},
    "label too high": lambda b, key: b | {key: [*b[key][1:], 100]},
    "label below zero": lambda b, key: b | {key: [*b[key][1:], -1]},
    "label no number": lambda b, key: b | {key: [*b[key][1:], b"7"]},
    "label beyond any": lambda b, key: b | {key: [*b[key][1:], 2**70]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_table_that_is_not_as_declared_is_refused_by_name(
    dataset: Cifar10, tmp_path: Path, wrong: str
) -> None:
    kind = type(dataset)
    path = tmp_path / kind.folder / kind.test_file
    path.write_bytes(pickle.dumps(WRONG[wrong](batch(kind, 0), SETS[kind][0]), protocol=2))
    with pytest.raises(DataDamaged) as refused:
        dataset.load(tmp_path)
    assert str(path) in str(refused.value)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damage_anywhere_is_a_sentence_or_another_valid_table(
    dataset: Cifar10, tmp_path: Path, data: st.DataObject
) -> None:
    kind = type(dataset)
    path = tmp_path / kind.folder / kind.test_file
    good = bytearray(pickle.dumps(batch(kind, 0) | {b"data": np.zeros((N, 3072), np.uint8)}, 2))
    head = len(good) - 1
    cut = data.draw(st.integers(0, head))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.one_of(st.integers(0, 400), st.integers(0, head)))
        good[place] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(good[: cut or None] if data.draw(st.booleans()) else good))
    try:
        split = dataset.load(tmp_path)
    except DataDamaged as damaged:
        assert str(path) in str(damaged)
        assert "\n" not in str(damaged)
    else:
        assert split.test.x.shape[1:] == (3, 32, 32)


def test_a_missing_file_is_named_with_what_to_do(dataset: Cifar10, tmp_path: Path) -> None:
    (tmp_path / dataset.folder / dataset.test_file).unlink()
    with pytest.raises(DataMissing) as missing:
        dataset.load(tmp_path)
    assert f"{dataset.folder}/{dataset.test_file}" in str(missing.value)
    assert f"bench data fetch {dataset.name}" in str(missing.value)


def test_verifying_compares_with_the_official_checksums(dataset: Cifar10, tmp_path: Path) -> None:
    with pytest.raises(DataDamaged, match="is not the official file"):
        dataset.verify(tmp_path)


def test_torchvision_reads_the_same_files_the_same(
    dataset: Cifar10, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import datasets

    theirs = getattr(datasets, dataset.torchvision_name)
    monkeypatch.setattr(theirs, "_check_integrity", lambda self: True)
    monkeypatch.setattr(theirs, "_load_meta", lambda self: None)
    kind = type(dataset)
    named = {k.decode(): v for k, v in batch(kind, 1).items()}  # as Python 2's strings are to it
    (tmp_path / kind.folder / kind.test_file).write_bytes(pickle.dumps(named, protocol=2))
    reference = theirs(str(tmp_path), train=False)
    split = dataset.load(tmp_path)
    assert np.array_equal(reference.data, split.test.x.permute(0, 2, 3, 1).numpy())
    assert reference.targets == split.test.y.tolist()


@pytest.mark.parametrize("kind", list(SETS))
def test_the_file_names_are_torchvisions(kind: type[Cifar10]) -> None:
    from torchvision import datasets

    theirs = getattr(datasets, kind.torchvision_name)
    assert tuple(f for f, _ in theirs.train_list) == kind.train_files
    assert tuple(f for f, _ in theirs.test_list) == (kind.test_file,)
    assert theirs.base_folder == kind.folder
    assert all(len(md5) == len(hashlib.md5().hexdigest()) for _, md5 in theirs.train_list)
