"""The parts of a data set, cut into batches on the device.

A part that lies on the device and one that is decoded from files give the same batches. The test
images are a part of their own that no process holds in which a method runs.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bench.data.augment import Augment, View
from bench.data.dataset import Dataset
from bench.data.images import AnyImages
from bench.data.streaming import RESIDENT_BYTES, PixelSource, source_of
from bench.data.tasks import Task
from bench.data.tasks.classification import CLASSIFICATION
from bench.errors import DataDamaged, TrialFailed
from bench.seeds import generator


@dataclass(frozen=True)
class Part:
    """One part of a data set, ready to be cut into normalised float batches on the device.

    Attributes:
        y: labels (n,), or a regression's targets (n, numbers), on the device.
    """

    source: PixelSource
    y: Tensor
    view: View
    task: Task = CLASSIFICATION
    size: int | None = None
    channels_last: bool = False

    @classmethod
    def of(
        cls,
        images: AnyImages,
        dataset: Dataset,
        size: int | None,
        device: torch.device,
        *,
        resident_bytes: int = RESIDENT_BYTES,
        workers: int | None = None,
    ) -> "Part":
        """Make images ready for a device.

        Args:
            size: height and width that the network wants; None: as the data set states.
            resident_bytes: images that take less are kept on the device, others are streamed.
            workers: processes that decode files; None: chosen by the machine. No batch depends on
                it, nor on `resident_bytes`.

        Raises:
            DataDamaged: the targets are not those of the data set's task.
        """
        if wrong := dataset.task.wrong_targets(images.y, dataset.classes):
            raise DataDamaged(f"{dataset.name}: {wrong}")
        channels, height, width = dataset.shape

        def per_channel(values: tuple[float, ...]) -> Tensor:
            return (torch.tensor(values) * dataset.stored_one).view(1, channels, 1, 1).to(device)

        window = (round(height * dataset.crop_share), round(width * dataset.crop_share))
        view = View(
            stored=(height, width), window=window, size=(size or height, size or width),
            mean=per_channel(dataset.mean), std=per_channel(dataset.std),
        )  # fmt: skip
        wanted = None if (height, width) == (size, size) else size
        source = source_of(images, device, resident_bytes, workers)
        return cls(source, images.y.to(device), view, dataset.task, wanted)

    def __len__(self) -> int:
        return len(self.y)

    @property
    def device(self) -> torch.device:
        return self.y.device

    @cached_property
    def digest(self) -> str:
        """SHA-256 of images, labels and normalisation: the part's identity in a phase's key.

        Of image files it takes names and sizes, not pixels. It is the same for a part that is
        streamed.
        """
        sha = hashlib.sha256()
        self.source.identify(sha, self.y)
        for tensor in (self.view.mean, self.view.std):
            sha.update(tensor.cpu().numpy().tobytes())
        form = ((len(self), *self.source.shape), self.size, self.channels_last)
        sha.update(repr(form).encode())
        if self.view.window != self.view.stored:
            sha.update(repr(self.view.window).encode())
        sha.update(self.task.identity)
        return sha.hexdigest()

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised images (b, channels, height, width) and targets, as `batches` does."""
        return next(self.batches(max(1, len(index)), index))

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut the whole part, or the positions in `order`, into batches; the last may be short.

        Targets are labels (b,), numbers (b, outputs) or, for an autoencoder, the normalised images
        flattened (b, pixels).
        """
        order = torch.arange(len(self)) if order is None else order
        chunks = torch.split(order.to(self.source.indexed_on), size)
        sources = self.source.batches(chunks)
        for chunk, (store, rows) in zip(chunks, sources, strict=True):
            yield self._with_targets(self.view.plain(store, rows), chunk)

    def training_batches(
        self,
        size: int,
        order: Tensor,
        augment: Augment,
        seed: int,
        clock: int,
        start: int = 0,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Cut the positions in `order` into augmented batches.

        What is drawn for a batch depends on the seed, the clock and the batch's number alone.

        Args:
            clock: epochs the network has been trained for.
            start: number of the first batch to yield, when the earlier ones are done already.
        """
        if len(order) == 0:
            raise TrialFailed("there are no training images; put some into the data set's folder")
        chunks = torch.split(order.to(self.source.indexed_on), size)[start:]
        sources = self.source.batches(chunks, self.view.margin if augment.crop else 0)
        for step, (chunk, (store, rows)) in enumerate(zip(chunks, sources, strict=True), start):
            if augment == Augment():
                x = self.view.plain(store, rows)
            else:
                draws = generator(seed, "augment", clock, step)
                x = self.view.augmented(store, rows, augment, draws)
            yield self._with_targets(x, chunk)

    def in_memory_format(self, channels_last: bool) -> "Part":
        """Return the same part with batches in the memory layout the network wants."""
        return replace(self, channels_last=channels_last)

    def _with_targets(self, x: Tensor, chunk: Tensor) -> tuple[Tensor, Tensor]:
        if self.task.targets == "input":
            targets = x.flatten(1).clone()  # a network may change x in place
            return self._in_memory_format(x), targets
        return self._in_memory_format(x), self.y.index_select(0, chunk.to(self.device))

    def _in_memory_format(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x


@dataclass(frozen=True)
class TrainingParts:
    """The parts of a data set that methods are given, on the device."""

    dataset: Dataset
    train: Part
    validation: Part


@dataclass(frozen=True)
class MeasuringParts:
    """The parts of a data set that finished networks are measured on, on the device."""

    dataset: Dataset
    validation: Part
    test: Part
