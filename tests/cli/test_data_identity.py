"""Data are part of a trial's identity: other content is another trial, another place is not."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from commands_shell import Bench, Shell
from PIL import Image

NETWORK = '''
"""A tiny network for photographs."""
from torch import nn
from bench.api import Recipe, network

@network(recipe=Recipe(lr=0.05, batch_size=8, epochs=1), input_size=12)
def tiny(num_classes, in_shape):
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(in_shape[0] * 16, 6), nn.ReLU(),
                         nn.Linear(6, num_classes))
'''
TENSORS = '''
"""Squares of noise."""
from pathlib import Path
import numpy as np, torch
from bench.api import Dataset, Images, Split

class Squares(Dataset):
    name = "squares"
    shape, classes, mean, std = (1, 6, 6), 2, (0.5,), (0.25,)

    def load(self, root):
        x = torch.from_numpy(np.load(root / "squares.npy"))
        images = Images(x, torch.arange(len(x)) % 2)
        return Split(*(images.take(torch.arange(a, b)) for a, b in ((0, 40), (40, 50), (50, 60))))
'''
BASE = ("run", "--methods", "dense", "--models", "net.py:tiny", "--seeds", "0", "--jobs", "1",
        "--budget", "smoke")  # fmt: skip


@pytest.fixture
def photos(bench: Bench, tmp_path: Path) -> Bench:
    (tmp_path / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            pixels = rng.integers(0, 90, (14, 14, 3), dtype=np.uint8) + 100 * label
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / name / f"{i}.bmp")
    return bench


def ran(shell: Shell) -> Shell:
    assert shell.code == 0, shell.err
    return shell


def planned(bench: Bench, *arguments: str) -> str:
    (row,) = json.loads(ran(bench(*BASE, *arguments, "--dry-run", "--json")).out)
    return str(row["trial"])


def of(bench: Bench, folder: str) -> str:
    return planned(bench, "--datasets", f"imagefolder:{folder}")


def test_spellings_and_copies_of_a_folder_are_one_data_set(photos: Bench, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere" / "pics")
    same = ("photos", "photos/", "./photos", str(tmp_path / "photos"), "elsewhere/pics")
    assert len({of(photos, spelling) for spelling in same}) == 1
    both = photos(*BASE, "--datasets", "imagefolder:photos,imagefolder:elsewhere/pics",
                  "--dry-run", "--json")  # fmt: skip
    assert len(json.loads(ran(both).out)) == 1


def test_changed_content_is_another_trial(photos: Bench, tmp_path: Path) -> None:
    found = [of(photos, "photos")]
    one, other = (tmp_path / "photos" / name for name in ("ant", "bee"))
    one.rename(tmp_path / "photos" / "x")  # swapped labels
    other.rename(one)
    (tmp_path / "photos" / "x").rename(other)
    found.append(of(photos, "photos"))
    shutil.copy(one / "3.bmp", one / "99.bmp")  # an added image
    found.append(of(photos, "photos"))
    facts = (one / "0.bmp").stat()
    pixels = bytearray((one / "0.bmp").read_bytes())
    pixels[-1] ^= 255
    (one / "0.bmp").write_bytes(pixels)  # another pixel, in a file of the same size and time
    os.utime(one / "0.bmp", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    found.append(of(photos, "photos"))
    assert len(set(found)) == len(found)


def test_swapped_pixels_of_equal_sizes_are_trained_on(photos: Bench, tmp_path: Path) -> None:
    asked = (*BASE, "--datasets", "imagefolder:photos")
    ran(photos(*asked))
    for name in ("ant", "bee"):
        for i in range(20):
            file = tmp_path / "photos" / name / f"{i}.bmp"
            Image.fromarray(255 - np.asarray(Image.open(file))).save(file)
    ran(photos(*asked))
    folder = tmp_path / "results" / "default" / "trials"
    assert len(list(folder.iterdir())) == 2
    costs = [json.loads(f.read_text())["work"] for f in folder.glob("*/cost.json")]
    assert [c["trainings"] for c in costs] == [1, 1]


def test_a_report_never_averages_two_contents(photos: Bench, tmp_path: Path) -> None:
    ran(photos(*BASE, "--datasets", "imagefolder:photos"))
    shutil.copytree(tmp_path / "photos", tmp_path / "more" / "photos")
    shutil.copy(tmp_path / "photos/ant/1.bmp", tmp_path / "more/photos/ant/98.bmp")
    other = [word if word != "0" else "1" for word in BASE]
    ran(photos(*other, "--datasets", "imagefolder:more/photos"))
    table = ran(photos("report", "--format", "md,csv")).out
    lines = next((tmp_path / "results").rglob("summary.csv")).read_text().splitlines()
    names = [line.split("imagefolder:")[1].split(",")[0] for line in lines[1:]]
    assert len(set(names)) == 2
    assert all(name.startswith("photos-") and name in table for name in names)


def test_a_trial_is_shown_and_exported_after_its_folder_moved(
    photos: Bench, tmp_path: Path
) -> None:
    ran(photos(*BASE, "--datasets", "imagefolder:photos"))
    (trial,) = (tmp_path / "results" / "default" / "trials").iterdir()
    text = (trial / "result.json").read_text()
    assert str(tmp_path) not in text
    assert '"imagefolder:photos"' not in text
    (tmp_path / "photos").rename(tmp_path / "moved")
    shown = ran(photos("show", trial.name[:6])).out
    assert f"read from {tmp_path / 'photos'}" in shown
    assert "No table of its layers" not in shown
    ran(photos("export", trial.name, "--to", "torch"))
    again = ran(photos(*BASE, "--datasets", "imagefolder:moved"))
    assert "Nothing to train" in again.err


def test_tensors_of_a_plug_in_are_content_too(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "squares.py").write_text(TENSORS)
    (tmp_path / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(1)
    for place in ("one", "two", "three"):
        (tmp_path / place).mkdir()
    x = rng.integers(0, 255, (60, 1, 6, 6), dtype=np.uint8)
    np.save(tmp_path / "one" / "squares.npy", x)
    np.save(tmp_path / "two" / "squares.npy", x)
    np.save(tmp_path / "three" / "squares.npy", 255 - x)
    found = [planned(bench, "--datasets", "squares", "--plugin", "squares.py", "--data-dir", place)
             for place in ("one", "two", "three")]  # fmt: skip
    assert found[0] == found[1] != found[2]
    ran(bench(*BASE, "--datasets", "squares", "--plugin", "squares.py", "--data-dir", "one"))


def test_data_that_a_dry_run_does_not_find_are_told(bench: Bench) -> None:
    asked = ("run", "--methods", "dense", "--datasets", "mnist,digits", "--seeds", "0", "--dry-run")
    shell = ran(bench(*asked, "--json"))
    ids = {row["label"].split()[2]: row["trial"] for row in json.loads(shell.out)}
    assert ids["mnist"] is None
    assert len(ids["digits"]) == 12
    assert "bench data fetch mnist" in shell.err
    assert bench(*asked[:-1]).code == 2


def test_worker_processes_find_the_folder_that_a_digest_stands_for(
    photos: Bench, tmp_path: Path
) -> None:
    two = ["2" if word == "1" else word for word in BASE]
    ran(photos(*two, "--seeds", "0,1", "--datasets", "imagefolder:photos"))
    records = list((tmp_path / "results" / "default").glob("trials/*/result.json"))
    assert len(records) == 2
    place = json.loads((records[0].parent / "spec.json").read_text())["data"]
    assert place == {"path": str(tmp_path / "photos"), "classes": ["ant", "bee"]}
