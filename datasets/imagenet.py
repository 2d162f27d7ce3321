"""ImageNet and two small relatives: folders of JPEG files, one per class."""

import os
from pathlib import Path
from typing import ClassVar

import torch

from bench.api import (
    DataDamaged,
    DataMissing,
    ImageFiles,
    Split,
    from_each_class,
    stratified,
    with_validation,
)
from bench.datasets._folders import FolderWalk, Photos, labelled


class TinyImagenet(Photos):
    """Tiny ImageNet: 200 classes of 500 photographs, 64x64: 90,000 / 10,000 / 10,000.

    The official validation images, the only labelled ones beside the training images, are the
    test set. A class's label is its place among the sorted ids of wnids.txt.
    """

    name = "tiny-imagenet"
    shape = (3, 64, 64)
    classes = 200
    crop_share = 1.0
    augment = "flip+crop"

    def load(self, root: Path) -> Split:
        folder = root / "tiny-imagenet-200"
        _need_folder(folder / "train", self.name)
        names = self._names(folder / "wnids.txt")
        train = labelled(folder, [f"train/{n}/images" for n in names], self.shape)
        return with_validation(train, self._test(folder, names), self.name)

    def fetch(self, root: Path) -> None:
        raise DataMissing(
            "tiny-imagenet is not downloaded: get http://cs231n.stanford.edu/tiny-imagenet-200.zip "
            f"and unpack it into {root}"
        )

    def _names(self, table: Path) -> list[str]:
        if not table.is_file():
            raise DataMissing(f"tiny-imagenet is not complete: {table} is missing; unpack it again")
        names = sorted(set(_text(table).split()))
        if not 2 <= len(names) <= self.classes:
            raise DataDamaged(
                f"{table} names {len(names)} classes, expected {self.classes}; unpack "
                "tiny-imagenet-200.zip again"
            )
        return names

    def _test(self, folder: Path, names: list[str]) -> ImageFiles:
        table = folder / "val" / "val_annotations.txt"
        if not table.is_file():
            raise DataMissing(f"tiny-imagenet is not complete: {table} is missing; unpack it again")
        label_of = {name: label for label, name in enumerate(names)}
        paths, labels = [], []
        for line in _text(table).splitlines():
            file, _, rest = line.partition("\t")
            name = rest.partition("\t")[0]
            if name not in label_of:
                raise DataDamaged(
                    f"{table} puts {file} into the class {name!r}, which wnids.txt does not "
                    "name; unpack tiny-imagenet-200.zip again"
                )
            paths.append(f"val/images/{file}")
            labels.append(label_of[name])
        return ImageFiles(folder, tuple(paths), torch.tensor(labels), self.shape)


def _text(table: Path) -> str:
    try:
        return table.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataDamaged(
            f"{table} is no text in UTF-8; unpack tiny-imagenet-200.zip again"
        ) from error


class Imagenette(Photos):
    """Imagenette: 10 easy classes of ImageNet, 160x160: 8,522 / 947 / 3,925 photographs.

    Its official validation images are the test set. Of the three published sizes that of 160
    pixels is read, or the larger ones where it is not there.
    """

    name = "imagenette"
    shape = (3, 160, 160)
    classes = 10
    crop_share = 1.0
    folders: ClassVar[tuple[str, ...]] = ("imagenette2-160", "imagenette2-320", "imagenette2")

    def load(self, root: Path) -> Split:
        here = [root / name for name in self.folders if (root / name).is_dir()]
        folder = here[0] if here else root / self.folders[0]
        _need_folder(folder / "train", self.name)
        _need_folder(folder / "val", self.name)
        names = _need_classes(folder / "train", self.classes)
        train = labelled(folder, [f"train/{n}" for n in names], self.shape)
        test = labelled(folder, [f"val/{n}" for n in names], self.shape)
        return with_validation(train, test, self.name)

    def fetch(self, root: Path) -> None:
        from torchvision import datasets  # takes a second to import

        if not (root / self.folders[0]).is_dir():
            datasets.Imagenette(os.fspath(root), split="train", size="160px", download=True)


class Imagenet(Photos):
    """ImageNet-1k (ILSVRC 2012): 1,000 classes, 256x256 cut to 224; files in `imagenet`.

    `train` and `val` hold one folder per class; a class's label is its place in their sorted
    names, which is the official order. The official validation images are the test set, and 10
    images of each class of `train` are the validation set. Where `train` has no images, only
    evaluation is possible: then a fixed stratified tenth of `val` is the validation set and the
    rest the test set.
    """

    name = "imagenet"
    classes = 1000

    def load(self, root: Path) -> Split:
        folder = root / "imagenet"
        _need_folder(folder / "train", self.name)
        _need_folder(folder / "val", self.name)
        names = _need_classes(folder / "train", self.classes)
        unknown = sorted(set(FolderWalk(folder).folders_in(folder / "val")) - set(names))
        if unknown:
            raise DataDamaged(
                f"{folder / 'val'} has a folder {unknown[0]!r} that train does not have; put each "
                "image into the folder of its class"
            )
        train = labelled(folder, [f"train/{n}" for n in names], self.shape)
        test = labelled(folder, [f"val/{n}" for n in names], self.shape)
        if len(train) == 0:
            tenth = round(len(test) / 10)
            few, rest = stratified(test.y, (tenth, len(test) - tenth), self.name)
            return Split(train, test.take(few), test.take(rest))
        few, rest = from_each_class(train.y, 10, 1, self.name)
        return Split(train.take(rest), train.take(few), test)

    def fetch(self, root: Path) -> None:
        raise DataMissing(
            "imagenet is not downloaded, its licence must be accepted: get it from "
            f"https://image-net.org and lay it out as {root / 'imagenet'}/train/<class>/*.JPEG "
            "and val/<class>/*.JPEG"
        )


def _need_folder(folder: Path, name: str) -> None:
    if not folder.is_dir():
        raise DataMissing(
            f"{name} is not in {folder.parent}: the folder {folder.name} is missing; bench data "
            f"fetch {name} gets it or says where it is, --data-dir names another folder"
        )


def _need_classes(folder: Path, classes: int) -> list[str]:
    names = FolderWalk(folder).folders_in(folder)
    if len(names) != classes:
        raise DataDamaged(
            f"{folder} has {len(names)} folders where there are {classes} classes; make one for "
            "each class, empty if need be, or labels would shift"
        )
    return names
