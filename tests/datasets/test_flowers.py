"""Both flower sets on files that the tests write: parts, labels, subsets and refusals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat
from small_images import write_image

from bench.datasets.flowers import Flowers, FlowersOfficial
from bench.datasets.oxford17 import Oxford17, Oxford17Split2, Oxford17Split3
from bench.errors import DataDamaged, DataMissing

N = 120  # images of 3 classes, 40 each, in no order


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "flowers-102"
    order = np.random.default_rng(0).permutation(N)
    labels = (order % 3 + 1).astype(np.uint8)
    ids = np.random.default_rng(1).permutation(N) + 1
    savemat_in(folder / "imagelabels.mat", labels=labels[None])
    savemat_in(
        folder / "setid.mat", trnid=ids[None, :30], valid=ids[None, 30:60], tstid=ids[None, 60:]
    )
    write_image(folder / "jpg" / "image_00001.jpg")
    data = (folder / "jpg" / "image_00001.jpg").read_bytes()
    for i in range(2, N + 1):
        (folder / "jpg" / f"image_{i:05d}.jpg").write_bytes(data)
    return tmp_path


def savemat_in(path: Path, **values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, values)


def label_of(root: Path, path: str) -> int:
    order = np.random.default_rng(0).permutation(N)
    return int(order[int(path[-9:-4]) - 1] % 3)


def counts(y: torch.Tensor) -> list[int]:
    return torch.bincount(y, minlength=3).tolist()


def test_the_official_parts_are_those_of_the_files(root: Path) -> None:
    split = FlowersOfficial().load(root)
    ids = np.random.default_rng(1).permutation(N) + 1
    parts = (split.train, split.validation, split.test)
    for part, expected in zip(parts, (ids[:30], ids[30:60], ids[60:]), strict=True):
        assert [int(p[-9:-4]) for p in part.paths] == expected.tolist()
        assert part.y.tolist() == [label_of(root, p) for p in part.paths]
        assert part.shape == (3, 256, 256)


def test_the_pooled_parts_have_ten_of_each_class_and_never_change(root: Path) -> None:
    split = Flowers().load(root)
    assert counts(split.validation.y) == counts(split.test.y) == [10] * 3
    assert counts(split.train.y) == [20] * 3
    paths = [*split.train.paths, *split.validation.paths, *split.test.paths]
    assert len(set(paths)) == N
    for part in (split.train, split.validation, split.test):
        assert part.y.tolist() == [label_of(root, p) for p in part.paths]
    assert Flowers().load(root).test.paths == split.test.paths


def test_only_the_images_that_a_list_names_count(root: Path) -> None:
    folder = root / "flowers-102"
    listed = {"train": list(range(0, 30, 2)), "val": [0, 5, 7], "test": list(range(30))}
    (folder / "available.json").write_text(json.dumps({"indices_into_official_split": listed}))
    official = FlowersOfficial().load(root)
    assert [len(p) for p in (official.train, official.validation, official.test)] == [15, 3, 30]
    ids = np.random.default_rng(1).permutation(N) + 1
    kept = {int(i) for i in (*ids[0:30:2], *ids[[30, 35, 37]], *ids[60:90])}
    for i in set(range(1, N + 1)) - kept:
        (folder / "jpg" / f"image_{i:05d}.jpg").unlink()
    split = Flowers().load(root)
    total = [
        a + b + c for a, b, c in zip(*(counts(p.y) for p in vars(split).values()), strict=True)
    ]
    assert sum(total) == 48
    assert counts(split.test.y) == counts(split.validation.y) == [min(10, n // 3) for n in total]


@pytest.mark.parametrize("listed", [[], {}, {"train": [0], "val": [0]}, {"train": [30]},
                                    {"train": []}, {"train": [True]}, {"train": "all"}])  # fmt: skip
def test_a_list_that_makes_no_sense_is_refused(root: Path, listed: object) -> None:
    path = root / "flowers-102" / "available.json"
    path.write_text(json.dumps({"indices_into_official_split": listed}))
    with pytest.raises(DataDamaged, match="available.json"):
        Flowers().load(root)
    path.write_text("[")
    with pytest.raises(DataDamaged, match="available.json"):
        Flowers().load(root)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat", "jpg/image_00077.jpg"])
def test_a_missing_file_is_named_with_what_to_do(root: Path, file: str) -> None:
    (root / "flowers-102" / file).unlink()
    with pytest.raises(DataMissing) as missing:
        Flowers().load(root)
    assert Path(file).name in str(missing.value)
    assert "bench data fetch flowers" in str(missing.value)


@pytest.mark.parametrize("file", ["imagelabels.mat", "setid.mat"])
def test_a_damaged_table_is_named(root: Path, file: str) -> None:
    path = root / "flowers-102" / file
    data = path.read_bytes()
    for bad in (b"", data[:100], b"<html>", data[:140] + bytes(20)):
        path.write_bytes(bad)
        with pytest.raises(DataDamaged, match=file):
            Flowers().load(root)
    savemat_in(path, other=np.ones((1, 3)))
    with pytest.raises(DataDamaged, match=file):
        Flowers().load(root)


def test_tables_that_do_not_belong_together_are_refused(root: Path) -> None:
    folder = root / "flowers-102"
    savemat_in(folder / "imagelabels.mat", labels=np.ones((1, N - 1), dtype=np.uint8))
    with pytest.raises(DataDamaged, match="120"):
        Flowers().load(root)
    savemat_in(folder / "imagelabels.mat", labels=np.full((1, N), 103, dtype=np.uint8))
    with pytest.raises(DataDamaged, match="1-102"):
        Flowers().load(root)


# -- 17 flowers ------------------------------------------------------------------------------


@pytest.fixture
def seventeen(tmp_path: Path) -> Path:
    folder = tmp_path / "17flowers"
    write_image(folder / "jpg" / "image_0001.jpg")
    data = (folder / "jpg" / "image_0001.jpg").read_bytes()
    for i in range(2, 1361):
        (folder / "jpg" / f"image_{i:04d}.jpg").write_bytes(data)
    tables = {}
    for k in (1, 2, 3):
        ids = np.random.default_rng(k).permutation(1360).astype(np.uint16)[None] + 1
        tables |= {f"trn{k}": ids[:, :680], f"val{k}": ids[:, 680:1020], f"tst{k}": ids[:, 1020:]}
    savemat_in(folder / "datasplits.mat", **tables)
    return tmp_path


@pytest.mark.parametrize("kind", [Oxford17, Oxford17Split2, Oxford17Split3])
def test_each_official_split_is_read_and_eighty_images_make_a_class(
    seventeen: Path, kind: type[Oxford17]
) -> None:
    split = kind().load(seventeen)
    ids = np.random.default_rng(kind.number).permutation(1360) + 1
    parts = (split.train, split.validation, split.test)
    for part, expected in zip(parts, (ids[:680], ids[680:1020], ids[1020:]), strict=True):
        assert [int(p[-8:-4]) for p in part.paths] == expected.tolist()
        assert part.y.tolist() == [(int(i) - 1) // 80 for i in expected]
    together = torch.cat([part.y for part in parts])
    assert torch.bincount(together).tolist() == [80] * 17


def test_missing_and_damaged_files_of_17_flowers_are_named(seventeen: Path) -> None:
    folder = seventeen / "17flowers"
    (folder / "jpg" / "image_0500.jpg").unlink()
    with pytest.raises(DataMissing, match="image_0500.jpg"):
        Oxford17().load(seventeen)
    savemat_in(folder / "datasplits.mat", trn1=np.array([[1361]]))
    with pytest.raises(DataDamaged, match="1-1360"):
        Oxford17().load(seventeen)
    (folder / "datasplits.mat").write_bytes(b"no")
    with pytest.raises(DataDamaged, match="datasplits.mat"):
        Oxford17().load(seventeen)
    (folder / "datasplits.mat").unlink()
    with pytest.raises(DataMissing, match="datasplits.mat"):
        Oxford17().load(seventeen)
    with pytest.raises(DataMissing, match="robots.ox.ac.uk"):
        Oxford17().fetch(seventeen)
