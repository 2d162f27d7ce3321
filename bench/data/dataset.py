"""A data set: a source of images, split once per data set, never per seed."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.data.decoding import MOST_MEGAPIXELS
from bench.data.images import AnyImages, ImageFiles, Images, Shape
from bench.data.ordinary_files import size_of_file
from bench.data.splits import PART_NAMES, PartName, Split
from bench.data.streaming import check_decodable
from bench.data.tasks import Task
from bench.data.tasks.classification import CLASSIFICATION
from bench.errors import DataDamaged


class Dataset(ABC):
    """A source of images. A subclass in `datasets/` is a data set; its `name` is what users type.

    Attributes:
        shape, classes: known without any file: networks are built before data is read.
        task: what is asked of a network; `classes` are labels, or how many numbers a regression has.
        stored_one: what stands for 1 in the stored images: bytes go up to 255, numbers are numbers.
        augment: what is done to training images unless the recipe says otherwise.
        crop_share: of the side of a stored image, the centre that evaluation looks at.
        max_megapixels: image files of more are refused when they are checked; what the flag says.
        relevant: which inputs the targets depend on, boolean (pixels,), where that is known.
    """

    name: str
    shape: Shape
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: Task = CLASSIFICATION
    stored_one: float = 255.0
    needs_files: bool = False
    augment: str = "none"
    crop_share: float = 1.0
    max_megapixels: float = MOST_MEGAPIXELS
    relevant: Tensor | None = None

    def for_seed(self, seed: int) -> "Dataset":
        """Return the data set that a trial with this seed sees: the same for all, unless it is drawn."""
        return self

    @abstractmethod
    def load(self, root: Path) -> Split:
        """Return the three parts, always the same ones.

        Raises:
            DataMissing: the files are not under `root`.
            DataDamaged: they are, but are truncated or not what they should be.
        """

    def load_parts(
        self, root: Path, names: Sequence[PartName] = PART_NAMES
    ) -> tuple[AnyImages, ...]:
        """Return some of the parts, in memory that holds no image of another one.

        Everything is read, and what was not asked for dropped. A subclass whose parts lie in files of
        their own may read just those.

        Raises:
            DataMissing, DataDamaged: as `load` does.
        """
        split = self.load(root)
        return tuple(getattr(split, name).copied() for name in names)

    def fetch(self, root: Path) -> None:
        """Download what `load` needs, with progress and checksums; nothing by default."""
        return

    def files(self, root: Path) -> Sequence[Path]:
        """Return the few files that `load` reads everything from; nothing where images are files.

        It is asked of shipped data sets alone: their content is then hashed without being loaded.
        """
        return ()

    def verify(self, root: Path) -> str | None:
        """Check every file under `root`, images included; raises what `load` raises.

        Returns:
            What could not be checked, in words, if anything.
        """
        split = self.load(root)
        for images in (split.train, split.validation, split.test):
            if isinstance(images, ImageFiles):
                check_decodable(images.up_to(self.max_megapixels))
        return None


def check_images(images: AnyImages, shape: Shape, classes: int, what: str) -> None:
    """Refuse images that are not what the data set declares; files are only looked for.

    Raises:
        DataMissing: an image file is not there.
        DataDamaged: wrong shape or type, or a label out of range.
    """
    if not isinstance(images, ImageFiles | Images) or not isinstance(images.y, Tensor):
        raise DataDamaged(f"{what}: load() must give Images or ImageFiles, with labels as a tensor")
    if isinstance(images, ImageFiles):
        found: tuple[int, ...] = images.shape
        count, kind = len(images.paths), torch.uint8
    else:
        found, count, kind = tuple(images.x.shape[1:]), len(images.x), images.x.dtype
    has_numbers = images.y.is_floating_point()  # a regression's targets
    if found != shape or kind != (torch.float32 if has_numbers else torch.uint8):
        raise DataDamaged(f"{what}: images are {kind} {found}, expected {shape}")
    if count != len(images.y) or len(images) == 0:
        raise DataDamaged(f"{what}: {count} images but {len(images.y)} labels")
    if has_numbers:
        assert isinstance(images, Images)  # files hold uint8, which was refused above
        is_float = images.y.dtype == torch.float32 and images.y.shape[1:] == (classes,)
        if not is_float or not bool(images.y.isfinite().all() and images.x.isfinite().all()):
            raise DataDamaged(
                f"{what}: samples and targets must be finite float32, {classes} targets for each"
            )
    elif int(images.y.min()) < 0 or int(images.y.max()) >= classes:
        raise DataDamaged(f"{what}: a label lies outside 0-{classes - 1}")
    missing = images.first_missing() if isinstance(images, ImageFiles) else None
    if missing is not None:
        size_of_file(missing, f"put the file of {what} back")
