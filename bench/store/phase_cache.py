"""Work that is done once: finished phases under the hash of everything they read.

A phase is one file, `<key>.safetensors`: tensors, and a JSON record in its header. It appears by an
atomic rename; what is unreadable counts as missing. Locks are held by the operating system and die
with their process; lock files are never deleted, because somebody may be waiting on them.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bench.store.atomic import whole_file
from bench.store.json_values import Json
from bench.store.phase_records import Progress
from bench.store.records import Record

R = TypeVar("R", bound=Record)


class Stored(NamedTuple, Generic[R]):
    """What a file of the cache holds."""

    record: R
    tensors: dict[str, Tensor]


def key_of(facts: Mapping[str, Json], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of JSON facts and of the bytes of named tensors.

    Masks are all boolean and are hashed by value like everything else; memory layout does not count.
    """
    sha = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()[:32]


class PhaseStore:
    """The folder `phases/` of one results folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "locks").mkdir(parents=True, exist_ok=True)
        (folder / "progress").mkdir(exist_ok=True)

    def load(self, key: str, kind: type[R]) -> Stored[R] | None:
        """Return a finished phase of a kind, or None."""
        return _read(self.folder / f"{key}.safetensors", kind)

    def save(self, key: str, record: Record, tensors: Mapping[str, Tensor]) -> None:
        """Store a finished phase and forget its progress."""
        _write(self.folder / f"{key}.safetensors", record, tensors)
        self._progress(key).unlink(missing_ok=True)

    def load_progress(self, key: str) -> Stored[Progress] | None:
        return _read(self._progress(key), Progress)

    def save_progress(self, key: str, record: Progress, tensors: Mapping[str, Tensor]) -> None:
        _write(self._progress(key), record, tensors)

    @contextmanager
    def claim(self, key: str) -> Iterator[float]:
        """Hold a phase for this process; yields the seconds spent waiting for another one."""
        started = time.perf_counter()
        with FileLock(self.folder / "locks" / f"{key}.lock", poll_interval=0.02):
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


def _write(path: Path, record: Record, tensors: Mapping[str, Tensor]) -> None:
    # Clones: the format refuses tensors that share memory, as tied weights do.
    flat = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    with whole_file(path) as part:
        save_file(flat, part, metadata={"record": json.dumps(record.as_json())})


def _read(path: Path, kind: type[R]) -> Stored[R] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = kind.model_validate(json.loads((file.metadata() or {})["record"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Stored(record, tensors)
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError):
        return None  # damaged: it will be computed again and replaced
