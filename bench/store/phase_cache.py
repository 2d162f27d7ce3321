"""Work that is done once: finished phases under the hash of everything they read.

A phase is one file, `<key>.safetensors`: tensors, and in its header a JSON record and a checksum of
both. It appears by an atomic rename; what is unreadable or does not match its checksum counts as missing.
Locks are held by the operating system and die
with their process; lock files are never deleted, because somebody may be waiting on them.
"""

import hashlib
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.store.atomic import whole_file
from bench.store.json_values import Json
from bench.store.locks import locked
from bench.store.phase_records import PhaseRecord, Progress
from bench.store.records import Record

R = TypeVar("R", bound=Record)
FLUSHED_SECONDS = 1.0  # of work that a power cut may not cost: 45 MB are flushed in a tenth of it

_UNREADABLE = (SafetensorError, OSError, KeyError, ValueError, RecursionError)


class Stored(NamedTuple, Generic[R]):
    """The content of a file of the cache."""

    record: R
    tensors: dict[str, Tensor]


def key_of(facts: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of JSON facts and of the bytes of named tensors.

    Masks are all boolean and are hashed by value like everything else; memory layout does not count.
    """
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for head, content in _bytes_of(tensors):
        sha.update(head)
        sha.update(content)
    return sha.hexdigest()[:32]


def _checksum(record: str, tensors: Mapping[str, Tensor]) -> str:
    """Return the CRC-32 of a record and of named tensors: 8 hex digits.

    It is held against accidents, for which it is enough, and takes 0.4 of the time of a SHA-256; far less
    where the processor has no instructions for that.
    """
    value = zlib.crc32(record.encode())
    for head, content in _bytes_of(tensors):
        value = zlib.crc32(content, zlib.crc32(head, value))
    return f"{value:08x}"


def _bytes_of(tensors: Mapping[str, Tensor]) -> Iterator[tuple[bytes, memoryview]]:
    """Yield what identifies each tensor, by name: its name, type and shape, and its bytes."""
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        head = f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode()
        yield head, tensor.reshape(-1).view(torch.uint8).numpy().data


class PhaseStore:
    """The folder `phases/` of one results folder.

    Args:
        tell: is given a sentence about each file that is damaged.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None] = lambda sentence: None) -> None:
        self.folder = folder
        self._tell = tell
        self._told: set[Path] = set()  # a phase is looked for again under its lock
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        (folder / "progress").mkdir(exist_ok=True)

    def load(self, key: str, kind: type[R]) -> Stored[R] | None:
        """Return a finished phase of a kind, or None."""
        return self._read(
            self.folder / f"{key}.safetensors", kind, "what it holds is computed again"
        )

    def save(self, key: str, record: PhaseRecord, tensors: Mapping[str, Tensor]) -> None:
        """Store a finished phase and forget its progress."""
        takes_long = record.cost.seconds >= FLUSHED_SECONDS
        _write(self.folder / f"{key}.safetensors", record, tensors, flush=takes_long)
        self._progress(key).unlink(missing_ok=True)

    def load_progress(self, key: str) -> Stored[Progress] | None:
        """Return what is saved of an unfinished training, or None."""
        return self._read(self._progress(key), Progress, "its training begins anew")

    def save_progress(self, key: str, record: Progress, tensors: Mapping[str, Tensor]) -> None:
        _write(self._progress(key), record, tensors, flush=True)

    @contextmanager
    def claim(self, key: str) -> Iterator[float]:
        """Hold a phase for this process; yields the seconds spent waiting for another one."""
        started = time.perf_counter()
        with locked(self.folder / "locks" / f"{key}.lock", poll_seconds=0.02):
            for folder in (self.folder, self.folder / "progress"):
                for stale in folder.glob(f"{key}.*.part"):
                    stale.unlink(missing_ok=True)  # left by a writer that was killed
            yield time.perf_counter() - started

    def size(self) -> int:
        """Count the bytes of all finished phases."""
        return sum(f.stat().st_size for f in self.folder.glob("*.safetensors"))

    def evict(self, cap_bytes: int, may_go: set[str]) -> int:
        """Delete the oldest finished phases until the folder is under the cap.

        Args:
            cap_bytes: size the folder may have.
            may_go: keys that no unfinished trial could want.

        Returns:
            How many were deleted.
        """
        files = sorted(self.folder.glob("*.safetensors"), key=lambda f: f.stat().st_mtime)
        total = sum(f.stat().st_size for f in files)
        deleted = 0
        for file in files:
            if total <= cap_bytes:
                break
            if file.stem in may_go:
                total -= file.stat().st_size
                file.unlink(missing_ok=True)
                deleted += 1
        return deleted

    def _progress(self, key: str) -> Path:
        return self.folder / "progress" / f"{key}.safetensors"

    def _read(self, path: Path, kind: type[R], therefore: str) -> Stored[R] | None:
        """Return what a file holds; None where it is missing or damaged, which is told once."""
        if not path.is_file():
            return None
        try:
            with path.open("rb"):  # safetensors does not say that a file may not be read
                return _read(path, kind)
        except OSError as error:
            what = f"{path} cannot be read ({error.strerror or error})"
        except _UNREADABLE as error:
            why = str(error) if isinstance(error, _Damaged) else "it is no file of tensors"
            what = f"{path} is damaged ({why})"
        if path not in self._told:
            self._told.add(path)
            self._tell(f"{what}: {therefore}")
        return None


def read_phase(folder: Path, key: str) -> PhaseRecord | None:
    """Return the record of a finished phase of any kind; None where it is missing or damaged.

    Args:
        folder: `phases/` of a results folder, which stays as it is.
    """
    path = folder / f"{key}.safetensors"
    if path.parent != folder or not path.is_file():
        return None
    try:
        return _read(path, PhaseRecord).record
    except _UNREADABLE:
        return None


def check_phase(path: Path) -> str:
    """Return what is wrong with a file of the cache; nothing where it is sound.

    Raises:
        OSError: the system does not let it be read.
    """
    with path.open("rb") as file:
        file.read(1)  # what safetensors says of a file that may not be read is no OSError
    try:
        is_progress = path.parent.name == "progress"
        _read(path, Progress if is_progress else PhaseRecord)
    except _UNREADABLE as error:
        return (
            str(error) if isinstance(error, _Damaged) else "it is no file of tensors with a record"
        )
    return ""


class _Damaged(ValueError):
    """Content that is not what was written."""


def _write(path: Path, record: Record, tensors: Mapping[str, Tensor], flush: bool) -> None:
    # Clones: the format refuses tensors that share memory, as tied weights do.
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    text = json.dumps(record.as_json())
    with whole_file(path, flush) as part:
        save_file(flat, part, metadata={"record": text, "checksum": _checksum(text, flat)})


def _read(path: Path, kind: type[R]) -> Stored[R]:
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if "checksum" not in header:
        raise _Damaged("it has no checksum")
    if header["checksum"] != _checksum(header["record"], tensors):
        raise _Damaged("its content does not match its checksum")
    return Stored(kind.model_validate(json.loads(header["record"])), tensors)
