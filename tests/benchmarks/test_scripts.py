"""Every benchmark script runs from end to end; sizes are tiny, so no figure of these means anything."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"
NO_GUARD = ("--most-switches", "1e9")
QUICK = (*NO_GUARD, "--rounds", "1", "--warm-up", "0")

pytestmark = pytest.mark.slow


def run(tmp_path: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *arguments]
    # A script imports its neighbours, which a safe path would hide.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)


def figures(tmp_path: Path, script: str, *arguments: str) -> dict[str, Any]:
    """Run a script with --json; 3 says that a bound was missed, which tiny sizes may well do."""
    file = tmp_path / "figures.json"
    done = run(tmp_path, script, *QUICK, *arguments, "--json", str(file))
    assert done.returncode in (0, 3), done.stderr
    content = json.loads(file.read_text())
    assert content["script"] == script
    assert content["machine"]["cores"] >= 1 and content["machine"]["torch"]
    assert all(f["rounds"] == 1 and f["spread"]["median"] > 0 for f in content["findings"])
    for finding in content["findings"]:
        assert f"{finding['name']}: " in done.stdout
    assert (done.returncode == 3) == ("MISSED" in done.stdout)
    return content


def names(content: dict[str, Any]) -> str:
    return "\n".join(finding["name"] for finding in content["findings"])


def test_data_path(tmp_path: Path) -> None:
    content = figures(tmp_path, "data_path", "--images", "64", "--batch", "32")
    assert len(content["findings"]) == 4
    assert "seeded random pixels" in content["notes"][0]


def test_a_disturbed_run_refuses_to_give_a_ratio(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ("--images", "64", "--rounds", "1", "--most-switches", "-1", "--json", str(file))
    done = run(tmp_path, "data_path", *arguments)
    assert done.returncode == 1
    assert "No ratio: all 1 rounds" in done.stderr
    assert "bound" not in done.stdout
    assert not file.exists()


def test_end_to_end(tmp_path: Path) -> None:
    content = figures(
        tmp_path, "end_to_end", "--seeds", "1", "--epochs", "1", "--images", "256",
        "--models", "lenet-300-100", "--workers", "0",
    )  # fmt: skip
    assert names(content) == "lenet-300-100: bench run is faster than the user's loop, times"
    notes = content["notes"]
    assert sum("top1" in note for note in notes) == 2


def test_trainer_overhead(tmp_path: Path) -> None:
    content = figures(tmp_path, "trainer_overhead", "--lenet-steps", "20", "--resnet-steps", "1",
                      "--resnet-batch", "8")  # fmt: skip
    assert len(content["findings"]) == 8
    equal = [n for n in content["notes"] if "same weights to the last bit" in n]
    assert len(equal) == 4


def test_peak_share(tmp_path: Path) -> None:
    content = figures(tmp_path, "peak_share", "--batch", "4", "--threads", "1")
    assert "share of the peak of conv bf16" in names(content)


def test_phase_price(tmp_path: Path) -> None:
    content = figures(tmp_path, "phase_price", "--epochs", "1")
    assert "share of the training" in names(content)


def test_start_up(tmp_path: Path) -> None:
    content = figures(tmp_path, "start_up", "--trials", "84")
    for command in ("help", "plan 84 trials", "skip 84 finished trials", "report 84 trials"):
        assert f"{command}\n{command}, multiples of import torch" in names(content)


def test_deep_compression(tmp_path: Path) -> None:
    small = ("--weights", "20000", "--iterations", "20")
    content = figures(tmp_path, "deep_compression", *small)
    assert "k-means" in names(content) and "decoding" in names(content)


def test_huffman_codec(tmp_path: Path) -> None:
    content = figures(tmp_path, "huffman_codec", "--weights", "20000")
    assert len(content["findings"]) == 8
    assert "encoding positions" in names(content) and "decoding values" in names(content)


def test_removal(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    small = ("--networks", "resnet-18", "--shares", "0.4", "--seconds", "0.01")
    done = run(tmp_path, "removal", *small, "--json", str(file))
    assert done.returncode == 0, done.stderr
    rows = {row["coupling"]: row for row in json.loads(file.read_text())}
    cuts = [100 * rows[c]["cut"] for c in ("internal", "intersection", "branch", "tied")]
    assert cuts == pytest.approx([39.1, 41.2, 54.9, 63.5], abs=0.5)
    assert all(row["error"] <= 1e-12 and row["onnx_difference"] <= 1e-4 for row in rows.values())
