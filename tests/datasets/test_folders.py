"""Data sets of one folder per class, on files that the tests write."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_images import CPU, write_image

from bench.data.batches import Part
from bench.data.content import digest_of_split
from bench.data.images import ImageFiles
from bench.data.splits import Split
from bench.datasets.folder import ImageFolder
from bench.datasets.imagenet import Imagenet, Imagenette, TinyImagenet
from bench.errors import BenchError, DataDamaged, DataMissing, UsageError
from bench.store.file_digests import FileDigests


def fill(
    folder: Path, classes: list[str], n: int, extension: str = "JPEG", inner: str = ""
) -> None:
    """Write n copies of an image into the folder of each class."""
    for name in classes:
        first = folder / name / inner / f"{name}_0.{extension.lower()}"
        write_image(first)
        data = first.read_bytes()
        first.unlink()
        for i in range(n):
            (first.parent / f"{name}_{i}.{extension}").write_bytes(data)


def sizes(split: Split) -> tuple[int, int, int]:
    return len(split.train), len(split.validation), len(split.test)


def disjoint(split: Split) -> bool:
    paths = [*split.train.paths, *split.validation.paths, *split.test.paths]
    return len(set(paths)) == len(paths)


def labels_are_places(files: ImageFiles, classes: list[str], level: int = 1) -> bool:
    return [classes[y] for y in files.y.tolist()] == [p.split("/")[level] for p in files.paths]


# -- ImageNet --------------------------------------------------------------------------------

WNIDS = [f"n{i:08d}" for i in range(7, 7007, 7)]


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """A thousand folders of which the last three have images."""
    for part in ("train", "val"):
        for name in WNIDS:
            (tmp_path / "imagenet" / part / name).mkdir(parents=True)
    fill(tmp_path / "imagenet" / "train", WNIDS[-3:], 40)
    fill(tmp_path / "imagenet" / "val", WNIDS[-3:], 20)
    return tmp_path


def test_imagenets_labels_are_places_among_all_thousand_names(imagenet: Path) -> None:
    split = Imagenet().load(imagenet)
    assert sizes(split) == (90, 30, 60)
    assert disjoint(split)
    assert split.test.y.unique().tolist() == [997, 998, 999]
    assert torch.bincount(split.validation.y)[-3:].tolist() == [10, 10, 10]
    for part in (split.train, split.validation, split.test):
        assert labels_are_places(part, WNIDS)


def test_imagenet_without_training_images_is_for_evaluation_only(imagenet: Path) -> None:
    for name in WNIDS[-3:]:
        for file in (imagenet / "imagenet" / "train" / name).iterdir():
            file.unlink()
    split = Imagenet().load(imagenet)
    assert sizes(split) == (0, 6, 54)
    assert disjoint(split)
    assert torch.bincount(split.validation.y)[-3:].tolist() == [2, 2, 2]
    part = Part.of(split.test, Imagenet(), 224, CPU)
    assert part.batch(torch.tensor([0]))[0].shape == (1, 3, 224, 224)


def test_imagenet_with_other_than_a_thousand_folders_is_refused(imagenet: Path) -> None:
    (imagenet / "imagenet" / "val" / "n99999999").mkdir()
    with pytest.raises(DataDamaged, match="n99999999"):
        Imagenet().load(imagenet)
    (imagenet / "imagenet" / "train" / WNIDS[0]).rmdir()
    with pytest.raises(DataDamaged, match="999 folders"):
        Imagenet().load(imagenet)
    with pytest.raises(DataMissing, match="train"):
        Imagenet().load(imagenet / "elsewhere")
    with pytest.raises(DataMissing, match=r"image-net\.org"):
        Imagenet().fetch(imagenet)


# -- its relatives ---------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    fill(folder / "train", ["n3", "n1"], 20, inner="images")
    (folder / "train" / "n1" / "n1_boxes.txt").write_text("n1_0.JPEG\t0\t0\t62\t62\n")
    fill(folder, ["val"], 6, inner="images")
    (folder / "wnids.txt").write_text("n3\nn1\nn2\n")
    lines = [f"val_{i}.JPEG\t{'n1' if i % 2 else 'n3'}\t0\t0\t62\t62\n" for i in range(6)]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return tmp_path


def test_tiny_imagenet_tests_on_the_official_validation_images(tiny: Path) -> None:
    split = TinyImagenet().load(tiny)
    assert sizes(split) == (36, 4, 6)
    assert split.test.paths == tuple(f"val/images/val_{i}.JPEG" for i in range(6))
    assert split.test.y.tolist() == [2, 0] * 3
    for part in (split.train, split.validation):
        assert labels_are_places(part, ["n1", "n2", "n3"])
    assert disjoint(split)
    assert Part.of(split.test, TinyImagenet(), None, CPU).batch(torch.arange(6))[0].shape[2] == 64


def test_tiny_imagenet_names_what_is_missing_or_wrong(tiny: Path) -> None:
    folder = tiny / "tiny-imagenet-200"
    table = folder / "val" / "val_annotations.txt"
    table.write_text("val_0.JPEG\tn9\t0\t0\t1\t1\n")
    with pytest.raises(DataDamaged, match="n9"):
        TinyImagenet().load(tiny)
    table.unlink()
    with pytest.raises(DataMissing, match=r"val_annotations\.txt"):
        TinyImagenet().load(tiny)
    (folder / "wnids.txt").write_text("\n".join(f"n{i}" for i in range(201)))
    with pytest.raises(DataDamaged, match="201 classes"):
        TinyImagenet().load(tiny)
    (folder / "wnids.txt").unlink()
    with pytest.raises(DataMissing, match=r"wnids\.txt"):
        TinyImagenet().load(tiny)
    with pytest.raises(DataMissing, match="cs231n"):
        TinyImagenet().fetch(tiny)
    with pytest.raises(DataMissing, match="tiny-imagenet"):
        TinyImagenet().load(tiny / "elsewhere")


def test_imagenette_is_read_as_torchvision_does(tmp_path: Path) -> None:
    from torchvision import datasets

    names = list(datasets.Imagenette._WNID_TO_CLASS)
    for size in ("imagenette2-320", "imagenette2-160"):
        fill(tmp_path / size / "train", names, 10)
        fill(tmp_path / size / "val", names, 2 if size.endswith("160") else 3)
    split = Imagenette().load(tmp_path)
    assert sizes(split) == (90, 10, 20)  # the smallest that is there
    theirs = datasets.Imagenette(str(tmp_path), split="val", size="160px")
    found = {
        str(split.test.root / p): y
        for p, y in zip(split.test.paths, split.test.y.tolist(), strict=True)
    }
    assert found == {str(path): label for path, label in theirs._samples}
    (tmp_path / "imagenette2-160").rename(tmp_path / "away")
    assert sizes(Imagenette().load(tmp_path)) == (90, 10, 30)
    (tmp_path / "imagenette2-320" / "train" / "n00000000").mkdir()
    with pytest.raises(DataDamaged, match="11 folders"):
        Imagenette().load(tmp_path)
    with pytest.raises(DataMissing, match="bench data fetch imagenette"):
        Imagenette().load(tmp_path / "elsewhere")


# -- a user's own ----------------------------------------------------------------------------

NAMES = ["ant", "bee"]


def test_one_level_of_class_folders_is_split_in_proportion(tmp_path: Path) -> None:
    fill(tmp_path, NAMES, 20, "png")
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    (tmp_path / "ant" / ".hidden.png").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    dataset = ImageFolder(tmp_path)
    assert (dataset.name, dataset.classes) == (f"imagefolder:{tmp_path}", 2)
    split = dataset.load(Path("nowhere"))
    assert sizes(split) == (32, 4, 4)
    assert disjoint(split)
    for part in (split.train, split.validation, split.test):
        assert labels_are_places(part, NAMES, level=0)
        assert torch.bincount(part.y).tolist() == [len(part) // 2] * 2
    assert ImageFolder(tmp_path).load(Path()).test.paths == split.test.paths


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"train": 20}, (32, 4, 4)),
        ({"train": 20, "val": 3}, (36, 4, 6)),
        ({"train": 20, "valid": 3}, (36, 4, 6)),
        ({"train": 20, "test": 5}, (36, 4, 10)),
        ({"train": 20, "val": 3, "test": 5}, (40, 6, 10)),
        ({"train": 20, "valid": 3, "test": 5}, (40, 6, 10)),
    ],
)
def test_the_folders_that_are_there_are_the_parts(
    tmp_path: Path, given: dict[str, int], expected: tuple[int, int, int]
) -> None:
    for part, n in given.items():
        fill(tmp_path / part, NAMES, n)
    split = ImageFolder(str(tmp_path)).load(Path())
    assert sizes(split) == expected
    assert disjoint(split)
    assert all(path.startswith("test/" if "test" in given else "")
               for path in split.test.paths)  # fmt: skip
    if len(given) == 3:
        assert all(path.startswith("val") for path in split.validation.paths)


REFUSED: dict[str, tuple[Callable[[Path], object], type[BenchError], str]] = {
    "nothing there": (lambda p: None, DataMissing, "no folder"),
    "empty": (lambda p: p.mkdir(), UsageError, "0 class folders"),
    "one class": (lambda p: fill(p, ["ant"], 3), UsageError, "1 class folders"),
    "a class without images": (
        lambda p: (fill(p, NAMES, 3), (p / "cow").mkdir()), UsageError, "cow"),
    "other classes in val": (
        lambda p: (fill(p / "train", NAMES, 3), fill(p / "val", ["ant", "cow"], 3)),
        UsageError, "'bee' is in only one of train and val"),
    "a class of val without images": (
        lambda p: (fill(p / "train", NAMES, 3), fill(p / "val", ["ant"], 3),
                   (p / "val" / "bee").mkdir()),
        UsageError, "val/bee has no images"),
    "val and valid": (
        lambda p: [fill(p / part, NAMES, 3) for part in ("train", "val", "valid")],
        UsageError, "both val and valid"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_folders_that_are_no_data_set_are_refused_in_one_sentence(
    tmp_path: Path, case: str
) -> None:
    make, error, words = REFUSED[case]
    make(tmp_path / "mine")
    with pytest.raises(error, match=words) as refused:
        ImageFolder(tmp_path / "mine")
    message = str(refused.value)
    assert message.startswith(f"imagefolder:{tmp_path / 'mine'}")
    assert "\n" not in message and ". " not in message


def other_names(folder: Path, *parts: str) -> None:
    for part in parts:
        fill(folder / part, NAMES, 20)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (("Train", "Test"), (36, 4, 40)),
        (("training_set", "test_set"), (36, 4, 40)),
        (("training", "testing"), (36, 4, 40)),
        (("train", "validation"), (36, 4, 40)),
        (("TRAIN", "Validation", "Tests"), (40, 40, 40)),
        (("train2017", "val2017"), (36, 4, 40)),
        (("trainingData", "dev-set", "test images"), (40, 40, 40)),
    ],
)
def test_parts_are_known_by_the_names_that_people_give_them(
    tmp_path: Path, parts: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    other_names(tmp_path, *parts)
    dataset = ImageFolder(tmp_path)
    assert dataset.names == NAMES
    split = dataset.load(Path())
    assert sizes(split) == expected and disjoint(split)
    assert all(path.startswith(parts[-1]) for path in split.test.paths)
    if len(parts) == 3:
        assert all(path.startswith(parts[1]) for path in split.validation.paths)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("train", "training_set"), "both train and training_set"),
        (("val", "test"), "no folder train"),
        (("ant", "bee", "Test"), "Test is called as a part is"),
        (("train", "eval"), "eval may be for validation or for the test"),
        (("train", "others"), "others holds the class 'ant' too"),
        (("a/train", "b/train"), "holds a folder train"),
    ],
)
def test_parts_that_would_be_taken_for_classes_or_left_out_are_refused_by_name(
    tmp_path: Path, parts: tuple[str, ...], words: str
) -> None:
    other_names(tmp_path, *parts)
    with pytest.raises(UsageError, match=words):
        ImageFolder(tmp_path)


def test_hidden_folders_and_those_of_systems_are_neither_images_nor_classes(tmp_path: Path) -> None:
    fill(tmp_path, NAMES, 20)
    expected = ImageFolder(tmp_path).load(Path())
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir"):
        fill(tmp_path, [name], 3)
        fill(tmp_path / "ant", [name], 3)
        fill(tmp_path / "bee" / "more", [name], 3)
    dataset = ImageFolder(tmp_path)
    assert dataset.names == NAMES
    assert dataset.load(Path()).train.paths == expected.train.paths


def test_links_to_folders_and_images_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ["ant", "bee", "more"], 10)
    mine = tmp_path / "mine"
    (mine / "bee").mkdir(parents=True)
    (mine / "ant").symlink_to(tmp_path / "elsewhere" / "ant")
    (mine / "bee" / "linked").symlink_to(tmp_path / "elsewhere" / "bee")
    (mine / "bee" / "one.jpeg").symlink_to(tmp_path / "elsewhere" / "more" / "more_0.JPEG")
    split = ImageFolder(mine).load(Path())
    assert sum(sizes(split)) == 21
    found = {*split.train.paths, *split.validation.paths, *split.test.paths}
    assert {"ant/ant_0.JPEG", "bee/linked/bee_9.JPEG", "bee/one.jpeg"} <= found


@pytest.mark.parametrize(
    ("link", "target", "words"),
    [
        ("ant/up", "..", "leads back to"),
        ("ant/up", "../..", "leads back to"),
        ("ant/deep/up", "../../ant", "once more"),
        ("ant/round", "round", "cannot be followed"),
        ("ant/other", "../bee", "once more"),
        ("cow", "ant", "once more"),
        ("ant/gone", "/not/mounted", "is a link to /not/mounted"),
        ("cow", "/not/mounted", "is a link to /not/mounted"),
        ("ant/x.png", "/not/mounted/x.png", "is a link to /not/mounted/x.png"),
    ],
)
def test_links_that_lead_nowhere_back_or_to_the_same_images_are_refused(
    tmp_path: Path, link: str, target: str, words: str
) -> None:
    mine = tmp_path / "mine"
    fill(mine, NAMES, 10)
    (mine / link).parent.mkdir(exist_ok=True)
    (mine / link).symlink_to(target)
    with pytest.raises((DataMissing, DataDamaged), match=words) as refused:
        ImageFolder(mine)
    assert str(mine / link).removesuffix("/up") in str(refused.value) or "once" in words


def test_a_pipe_called_as_an_image_is_refused_where_classes_are_looked_for(tmp_path: Path) -> None:
    fill(tmp_path, NAMES, 10)
    os.mkfifo(tmp_path / "ant" / "pipe.png")
    with pytest.raises(DataDamaged, match="pipe.png is a named pipe"):
        ImageFolder(tmp_path)


def test_names_that_are_not_utf_8_or_of_two_lines_are_names(tmp_path: Path) -> None:
    latin = os.fsdecode(b"caf\xe9")
    fill(tmp_path, ["ant", latin], 10)
    (tmp_path / "ant" / "ant_0.JPEG").rename(tmp_path / "ant" / "a\nb.JPEG")
    (tmp_path / "ant" / "ant_1.JPEG").rename(tmp_path / "ant" / f"{latin}.JPEG")
    dataset = ImageFolder(tmp_path)
    split = dataset.load(Path())
    assert sum(sizes(split)) == 20
    parts = [Part.of(part, dataset, 16, CPU, workers=0) for part in (split.train, split.test)]
    assert len({part.digest for part in parts}) == 2
    assert digest_of_split(split, 2, FileDigests())


def test_too_few_images_for_a_tenth_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "a", NAMES, 2)
    with pytest.raises(UsageError, match="4 images"):
        ImageFolder(tmp_path / "a").load(Path())
    for part in ("train", "test"):
        fill(tmp_path / "b" / part, NAMES, 2)
    with pytest.raises(UsageError, match="4 training images"):
        ImageFolder(tmp_path / "b").load(Path())


def test_it_has_no_name_that_a_list_would_show() -> None:
    from bench.plan.plugins import shipped

    names = [entry.name for entry in shipped("datasets")]
    assert len(names) == len(set(names))
    assert not any("folder" in name for name in names)
    assert {"cifar10", "cifar100", "flowers", "imagenet", "oxford-17"} <= set(names)
