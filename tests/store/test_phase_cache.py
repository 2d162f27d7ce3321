"""Files of the cache hold what was written, or count as missing and are told of."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench.store import atomic
from bench.store.atomic import appearing, whole_file
from bench.store.phase_cache import PhaseStore
from bench.store.phase_records import CallPhase, Cost, Progress, TrainingPhase

KEY = "0123456789abcdef0123456789abcdef"
TENSORS = {
    "model/weight": torch.arange(3000, dtype=torch.float32).reshape(30, 100) + 1,
    "model/half": torch.ones(7, dtype=torch.bfloat16),
    "model/batches": torch.tensor(12),
    "mask/weight": torch.ones(30, 100, dtype=torch.bool),
    "callback/none": torch.empty(0),
}


def training(seconds: float = 5.0) -> TrainingPhase:
    return TrainingPhase(cost=Cost(epochs=3, seconds=seconds), log=[], callback={}, at_floor=False)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, told: list[str]) -> PhaseStore:
    return PhaseStore(tmp_path / "phases", told.append)


def the_file(store: PhaseStore) -> Path:
    (file,) = store.folder.glob("*.safetensors")
    return file


def zeroed_from_the_middle(file: Path) -> None:
    """Leave the file as a crash without a flush may: of the right size, its second half zeros."""
    content = bytearray(file.read_bytes())
    start = int.from_bytes(content[:8], "little") + 8
    middle = start + (len(content) - start) // 2
    content[middle:] = bytes(len(content) - middle)
    file.write_bytes(content)


def rewritten(file: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    save_file(tensors, file, metadata=header)


def header_of(file: Path) -> dict[str, str]:
    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata())


def test_a_phase_is_read_as_it_was_written_and_any_reader_of_the_format_reads_it(
    store: PhaseStore, told: list[str]
) -> None:
    store.save(KEY, training(), TENSORS)
    found = store.load(KEY, TrainingPhase)
    assert found is not None
    assert found.record == training()
    for tensors in (found.tensors, load_file(the_file(store))):
        assert tensors.keys() == TENSORS.keys()
        assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert told == []


@pytest.mark.parametrize("kind", ["phase", "progress"])
def test_a_file_whose_second_half_is_zeros_is_a_miss_and_is_told_once(
    store: PhaseStore, told: list[str], kind: str
) -> None:
    progress = Progress(epoch=2, cost=Cost(epochs=2))
    if kind == "phase":
        store.save(KEY, training(), TENSORS)
        file = the_file(store)
    else:
        store.save_progress(KEY, progress, TENSORS)
        file = store.folder / "progress" / f"{KEY}.safetensors"
    zeroed_from_the_middle(file)
    for _ in range(2):
        loaded = store.load(KEY, TrainingPhase) if kind == "phase" else store.load_progress(KEY)
        assert loaded is None
    (sentence,) = told
    assert str(file) in sentence
    assert "does not match its checksum" in sentence
    assert ("computed again" if kind == "phase" else "begins anew") in sentence


def test_every_flipped_bit_of_a_small_file_is_noticed(store: PhaseStore) -> None:
    small = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([True, False])}
    store.save(KEY, training(), small)
    file = the_file(store)
    whole = file.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            changed = bytearray(whole)
            changed[place] ^= bit
            file.write_bytes(changed)
            found = store.load(KEY, TrainingPhase)
            # What the format pads its header with may change without any effect.
            assert found is None or (
                found.record == training()
                and all(torch.equal(found.tensors[k], small[k]) for k in small)
            ), place
    file.write_bytes(whole)
    assert store.load(KEY, TrainingPhase) is not None


@pytest.mark.parametrize("change", ["record", "name", "shape", "type", "left out", "no checksum"])
def test_a_file_of_another_content_under_the_same_checksum_is_a_miss(
    store: PhaseStore, told: list[str], change: str
) -> None:
    store.save(KEY, training(), TENSORS)
    file, tensors = the_file(store), dict(TENSORS)
    header = header_of(file)
    weight = tensors.pop("model/weight")
    if change == "record":
        record = json.loads(header["record"])
        record["cost"]["epochs"] = 300
        header["record"] = json.dumps(record)
        tensors["model/weight"] = weight
    elif change == "name":
        tensors["model/other"] = weight
    elif change == "shape":
        tensors["model/weight"] = weight.reshape(100, 30)
    elif change == "type":
        tensors["model/weight"] = weight.view(torch.int32)
    elif change == "no checksum":
        tensors["model/weight"] = weight
        del header["checksum"]
    rewritten(file, tensors, header)
    assert store.load(KEY, TrainingPhase) is None
    assert len(told) == 1


def test_files_that_are_torn_empty_or_no_files_of_the_format_are_misses(
    store: PhaseStore, told: list[str]
) -> None:
    store.save(KEY, training(), TENSORS)
    file = the_file(store)
    whole = file.read_bytes()
    for content in (
        whole[:-1],
        whole[: len(whole) // 2],
        whole[:4],
        b"",
        bytes(len(whole)),
        whole + b"x",
    ):
        file.write_bytes(content)
        assert store.load(KEY, TrainingPhase) is None
    assert len(told) == 1
    file.unlink()
    assert store.load(KEY, TrainingPhase) is None
    assert len(told) == 1, "what is not there is not damaged"


# -- what a power cut leaves -----------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_flush(descriptor: int) -> None:
        done.append(f"flush {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        done.append(f"rename {Path(target).name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "replace", note_replace)
    return done


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="names of open files")


@needs_proc
def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, order: list[str]
) -> None:
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert order == [f"flush {part.name}", "rename a.txt", f"flush {tmp_path.name}"]


@needs_proc
def test_all_files_of_a_folder_are_on_the_disk_before_it_has_its_name(
    tmp_path: Path, order: list[str]
) -> None:
    with appearing(tmp_path, "export") as part:
        (part / "a.txt").write_text("whole")
        (part / "b.txt").write_text("whole")
    assert sorted(order[:2]) == ["flush a.txt", "flush b.txt"]
    assert order[2:] == [f"flush {part.name}", "rename export", f"flush {tmp_path.name}"]


@needs_proc
def test_long_work_and_all_progress_is_flushed_and_a_short_phase_is_not(
    store: PhaseStore, order: list[str]
) -> None:
    store.save(KEY, CallPhase(kind="json", log=[], cost=Cost(seconds=0.01)), {})
    assert not [line for line in order if line.startswith("flush")]
    store.save(KEY, training(seconds=30), TENSORS)
    assert [line.split()[0] for line in order[1:]] == ["flush", "rename", "flush"]
    order.clear()
    store.save_progress(KEY, Progress(epoch=1), TENSORS)
    assert [line.split()[0] for line in order] == ["flush", "rename", "flush"]


def test_a_file_system_that_cannot_flush_is_no_error_and_a_full_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        def refuse(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(atomic.os, "fsync", refuse)

    fail(errno.EINVAL)
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("first")
    fail(errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"), whole_file(tmp_path / "a.txt") as part:
        part.write_text("second")
    assert (tmp_path / "a.txt").read_text() == "first"
    assert [f.name for f in tmp_path.iterdir()] == ["a.txt"]
