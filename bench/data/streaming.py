"""Sources of a part's pixels: one tensor on the device, or files decoded as they are needed.

Both hand out the same bytes in the same order, so whoever asks cannot tell them apart.
"""

import hashlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bench.data.augment import padded
from bench.data.decoding import decode_all
from bench.data.images import AnyImages, ImageFiles, Shape
from bench.data.processes import available_cores, end_with_parent
from bench.errors import BenchError, MachineFailed

RESIDENT_BYTES = 4 * 2**30
MAX_WORKERS = 8
_DECODED_AT_ONCE = 64
_WORTH_A_WORKER = 1000  # files; fewer are decoded before a worker has started


class PixelSource(Protocol):
    """A part's pixels, handed out as (store, rows): the images are `store[rows]`."""

    @property
    def shape(self) -> Shape: ...

    @property
    def indexed_on(self) -> torch.device:
        """The device that positions are wanted on."""
        ...

    def batches(self, chunks: Sequence[Tensor], margin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a store and rows for each chunk of positions; stores are padded by `margin`."""
        ...

    def identify(self, sha: "hashlib._Hash", y: Tensor) -> None:
        """Add what the pixels and labels are to a hash."""
        ...


class Resident:
    """All images as one uint8 tensor on the device, padded once, when a crop first asks for it."""

    def __init__(self, x: Tensor, files: ImageFiles | None = None) -> None:
        """Take images (n, c, h, w) that are on the device; `files`: where they were decoded from."""
        self.x = x
        self.files = files
        self._padded = x
        self._margin = 0

    @property
    def shape(self) -> Shape:
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def indexed_on(self) -> torch.device:
        return self.x.device

    def batches(self, chunks: Sequence[Tensor], margin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        if margin or not self._margin:
            store = self._with_margin(margin) if margin else self.x
            for chunk in chunks:
                yield store, chunk
            return
        height, width = self.shape[1:]
        inside = (
            slice(self._margin, self._margin + height),
            slice(self._margin, self._margin + width),
        )
        for chunk in chunks:
            # Whole rows first: picking them out of a view of the middle takes five times as long.
            rows = self._padded.index_select(0, chunk)[:, :, *inside]
            yield rows, torch.arange(len(chunk), device=self.x.device)

    def identify(self, sha: "hashlib._Hash", y: Tensor) -> None:
        _identify(sha, self.x if self.files is None else self.files, y)

    def _with_margin(self, margin: int) -> Tensor:
        if margin != self._margin:
            height, width = self.shape[1:]
            self._padded, self._margin = padded(self.x, margin), margin
            # The images are a view of the middle from now on: memory is not taken twice.
            self.x = self._padded[:, :, margin : margin + height, margin : margin + width]
        return self._padded


class Streamed:
    """Images that are read, or decoded, batch by batch, in worker processes if there are any."""

    def __init__(self, images: AnyImages, workers: int, device: torch.device) -> None:
        self.images, self.workers, self.device = images, workers, device

    @property
    def shape(self) -> Shape:
        if isinstance(self.images, ImageFiles):
            return self.images.shape
        channels, height, width = self.images.x.shape[1:]
        return channels, height, width

    @property
    def indexed_on(self) -> torch.device:
        return torch.device("cpu")

    def batches(self, chunks: Sequence[Tensor], margin: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        workers = self.workers if len(chunks) > 1 else 0  # one batch is not worth a process
        for x in loaded(self.images, chunks, workers):
            moved = x.to(self.device)
            rows = torch.arange(len(moved), device=self.device)
            yield (padded(moved, margin) if margin else moved), rows

    def identify(self, sha: "hashlib._Hash", y: Tensor) -> None:
        _identify(sha, self.images if isinstance(self.images, ImageFiles) else self.images.x, y)


def source_of(
    images: AnyImages, device: torch.device, resident_bytes: int, workers: int | None
) -> PixelSource:
    """Return images as a source: on the device if they fit into `resident_bytes`.

    Args:
        workers: processes that decode; None: as many as there are cores, at most eight. The
            batches are the same for any number.
    """
    if isinstance(images, ImageFiles):
        if images.decoded_bytes <= resident_bytes:
            return Resident(decoded(images, workers).to(device), images)
        return Streamed(images, default_workers() if workers is None else workers, device)
    if images.x.nbytes <= resident_bytes:
        return Resident(images.x.contiguous().to(device))
    return Streamed(images, workers or 0, device)


def default_workers() -> int:
    return min(MAX_WORKERS, available_cores())


def decoded(files: ImageFiles, workers: int | None = None) -> Tensor:
    """Decode all files, once, into one uint8 tensor."""
    if workers is None:
        workers = default_workers() if len(files) >= _WORTH_A_WORKER else 0
    x = torch.empty(len(files), *files.shape, dtype=torch.uint8)
    chunks = torch.split(torch.arange(len(files)), _DECODED_AT_ONCE) if len(files) else ()
    done = 0
    for batch in loaded(files, chunks, workers):
        x[done : done + len(batch)] = batch
        done += len(batch)
    return x


def check_decodable(files: ImageFiles) -> None:
    """Decode every file and keep none.

    Raises:
        DataDamaged: names the first file that is not an image.
    """
    for _ in loaded(
        files, torch.split(torch.arange(len(files)), _DECODED_AT_ONCE), default_workers()
    ):
        pass


def loaded(images: AnyImages, chunks: Sequence[Tensor], workers: int) -> Iterator[Tensor]:
    """Yield uint8 images for each chunk of positions, in order, read ahead by worker processes."""
    keys: list[list[str]] | list[list[int]]
    if isinstance(images, ImageFiles):
        # Workers are sent the names of each batch: they need not hold a million of them.
        keys = [[images.paths[i] for i in chunk.tolist()] for chunk in chunks]
        rows: _FileRows | _ArrayRows = _FileRows(images)
    else:
        keys = [chunk.tolist() for chunk in chunks]
        rows = _ArrayRows(images.x.numpy())
    if not keys:
        return
    loader: DataLoader[Any] = DataLoader(
        rows, batch_sampler=keys, collate_fn=_as_it_is, num_workers=workers,
        # Its own generator: the global one, which dropout draws from, must not notice.
        generator=torch.Generator(), worker_init_fn=_start_quietly,
        multiprocessing_context=_context() if workers else None,
    )  # fmt: skip
    batches = iter(loader)
    try:
        yield from _checked(batches)
    finally:
        if workers:
            batches._shutdown_workers()  # type: ignore[attr-defined]  # also when stopped early


def _checked(batches: Iterator[Any]) -> Iterator[Tensor]:
    """Turn what went wrong in a worker into the error it is, without the worker's traceback."""
    try:
        for batch in batches:
            if isinstance(batch, _Failure):
                raise batch.error(batch.sentence)
            yield torch.from_numpy(batch)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MachineFailed(
            "a process that decodes images was killed, most often for want of memory; free some and "
            "run the same command again"
        ) from error


@dataclass(frozen=True)
class _Failure:
    """An error on its way from a worker: exceptions would arrive with a page of traceback."""

    error: type[BenchError]
    sentence: str


class _FileRows(Dataset[np.ndarray]):
    """Decodes the files of a batch, given their names.

    Arrays travel through a pipe. Tensors would take shared memory and an open file each, which
    containers are short of, and a worker would complain of them when its parent is killed.
    """

    def __init__(self, files: ImageFiles) -> None:
        self.root, self.side, self.megapixels = files.root, files.shape[1], files.megapixels

    def __getitems__(self, names: list[str]) -> np.ndarray | _Failure:
        try:
            return decode_all(self.root, names, self.side, self.megapixels)
        except BenchError as error:
            return _Failure(type(error), str(error))


class _ArrayRows(Dataset[np.ndarray]):
    """Picks the rows of a batch out of an array in memory."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __getitems__(self, rows: list[int]) -> np.ndarray:
        return self.x[rows]


def _identify(sha: "hashlib._Hash", images: Tensor | ImageFiles, y: Tensor) -> None:
    if isinstance(images, Tensor):
        for tensor in (images, y):
            sha.update(tensor.contiguous().cpu().numpy().tobytes())
        return
    for name, label in zip(images.paths, images.y.tolist(), strict=True):
        row = f"{name}\0{(images.root / name).stat().st_size}\0{label}\n"
        sha.update(row.encode("utf-8", "surrogateescape"))  # names of files may be any bytes


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_quietly(worker: int) -> None:
    """Leave Ctrl-C to the process that asked, which ends its workers itself; die when it is killed.

    The server that workers come from lives as long as one of them, so torch's own watch, for the
    end of the parent, would wait for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def _context() -> Any:
    """Return a context whose processes come from a fresh server: forking one with threads may deadlock."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.data.streaming"])
    return context
