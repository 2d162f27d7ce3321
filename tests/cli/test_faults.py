"""A fault of ours in an operation is told as one: never as a layer that cannot be followed."""

import json
import os
from pathlib import Path

import pytest
import torch
from commands_shell import Bench
from torch import Tensor, nn

from bench.errors import UsersCodeFailed, in_words, users_code
from bench.graph import channels
from bench.graph.operations import meeting
from bench.graph.trace import layout_of

RESIDUAL = """
from torch import nn
from torch.nn import functional as F

class Residual(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.inner = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, classes)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = F.relu(x + self.inner(x))
        return self.head(x.mean((2, 3)))

def build(num_classes, in_shape):
    return Residual(num_classes)
"""


@pytest.fixture
def residual(tmp_path: Path) -> Path:
    (tmp_path / "residual.py").write_text(RESIDUAL)
    return tmp_path / "residual.py"


# What an addition needs, by the method of `Add` that breaks without it.
PLANTED = {"follow": (channels, "added"), "rewrite": (meeting, "Piece")}


@pytest.mark.parametrize("method", PLANTED)
def test_a_planted_fault_ends_its_trials_with_a_traceback_and_the_others_finish(
    bench: Bench, residual: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    module, name = PLANTED[method]
    monkeypatch.setattr(module, name, getattr(module, name))  # it is put back at the end
    with residual.open("a") as file:  # so that it is broken in the process that measures, too
        file.write(f"\nimport {module.__name__}\n{module.__name__}.{name} = None\n")
    shell = bench(
        "run", "--methods", "l1-filter", "--models", f"{residual.name}:build,fc-20-20", "--datasets",
        "digits", "--budget", "smoke", "--targets", "2", "--seeds", "0", "--jobs", "1",
        "--controls", "none", "--progress", "off", "--out", "out",
    )  # fmt: skip
    assert shell.code == 1
    trials = list((residual.parent / "out" / "trials").iterdir())
    finished = [t for t in trials if (t / "result.json").exists()]
    (failed,) = [t for t in trials if (t / "error.json").exists()]
    assert len(finished) == 1
    error = json.loads((failed / "error.json").read_text())
    assert "TypeError: 'NoneType' object is not callable" in error["error"]
    assert "bench/graph/operations/meeting.py, line " in error["error"]
    assert f"in Add.{method}): a fault of bench; please report" in error["error"]
    assert "operations/meeting.py" in error["traceback"].replace(os.sep, "/")
    # The run says it too, with the trial's id, and shows the traceback.
    assert failed.name in shell.err
    assert "Traceback" in shell.err


def test_show_ends_in_a_traceback_that_names_the_operation(
    bench: Bench, residual: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels, "added", None)
    shell = bench("show", f"{residual.name}:build")
    assert shell.code == 1
    assert "Traceback" in shell.err
    assert "in Add.follow): a fault of bench; please report" in shell.err


def test_a_planted_fault_refuses_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            made: Tensor = self.head((x + self.b(x)).mean((2, 3)))
            return made

    assert layout_of(Summed(), torch.zeros(1, 1, 6, 6)).refused == {
        "head": "its outputs are the network's"
    }
    monkeypatch.setattr(channels, "added", None)
    with pytest.raises(TypeError, match="not callable"):
        layout_of(Summed(), torch.zeros(1, 1, 6, 6))


FAILING = {
    "forward": ("self.head(x.mean((2, 3)))", "self.head(x)", "mat1 and mat2 shapes cannot be multiplied"),
    "init": ("nn.Linear(6, classes)", "nn.Linear(6, missing)", "NameError: name 'missing'"),
}  # fmt: skip


@pytest.mark.parametrize("place", FAILING)
def test_what_a_users_network_raises_is_told_in_its_words_with_its_line(
    bench: Bench, residual: Path, place: str
) -> None:
    old, new, words = FAILING[place]
    residual.write_text(RESIDUAL.replace(old, new))
    line = RESIDUAL.replace(old, new).splitlines().index(f"        {_line_of(new)}") + 1
    for command in (
        ["show"],
        ["run", "--methods", "l1-filter", "--datasets", "digits", "--models"],
    ):
        shell = bench(*command, f"{residual.name}:build")
        assert shell.code == 2
        assert words in shell.err
        assert f"(residual.py, line {line}, in " in shell.err
        assert "Traceback" not in shell.err
        assert "report" not in shell.err


def _line_of(part: str) -> str:
    return f"return {part}" if part.startswith("self.head(x)") else f"self.head = {part}"


def test_what_is_raised_beside_the_call_is_not_taken_for_the_users() -> None:
    with pytest.raises(UsersCodeFailed, match="ValueError: theirs"), users_code():
        raise ValueError("theirs\nand more")
    try:
        layout_of(None, torch.zeros(1))  # type: ignore[arg-type]
    except AttributeError as error:
        assert "bench/graph/" in in_words(error).replace(os.sep, "/")
        assert "a fault of bench" in in_words(error)


ASKING = """
from dataclasses import dataclass
from typing import ClassVar
from bench.api import Method

@dataclass(frozen=True)
class Asking(Method):
    "It asks for what a trial does not have, or divides by zero."
    rate: ClassVar = "none"
    level: ClassVar = "none"

    def prune(self, trial):
        trial.train()
        BODY
"""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("trial.setting", "a trial has no 'setting'; a method is given what docs/add-a-method.md lists"),
        ("1 / 0", "ZeroDivisionError: division by zero (asking.py, line 14, in Asking.prune)"),
    ],
)  # fmt: skip
def test_a_slip_of_a_methods_author_is_not_called_a_fault_of_ours(
    bench: Bench, tmp_path: Path, body: str, said: str
) -> None:
    (tmp_path / "asking.py").write_text(ASKING.replace("BODY", body))
    shell = bench(
        "run", "--methods", "asking", "--plugin", "asking.py", "--models", "fc-20-20", "--datasets",
        "digits", "--budget", "smoke", "--seeds", "0", "--jobs", "1", "--controls", "none",
    )  # fmt: skip
    assert shell.code == 1
    assert said in shell.err
    assert "please report" not in shell.err
