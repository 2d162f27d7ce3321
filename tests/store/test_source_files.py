"""The modules that a user's file imports are found without running it."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.store.source_files import SourceFiles, read_source_files


def tree(folder: Path, **files: str) -> Path:
    """Write files; two underscores are a slash."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/').replace('INIT', '__init__')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def read(folder: Path, main: str = "main.py") -> SourceFiles:
    return read_source_files(folder / main)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import helper", {"helper.py"}),
        ("import helper as h, other", {"helper.py", "other.py"}),
        ("from helper import *", {"helper.py"}),
        ("from helper import helper", {"helper.py"}),
        ("def f():\n    import helper", {"helper.py"}),
        ("class C:\n    def f(self):\n        from helper import x", {"helper.py"}),
        ("try:\n    import helper\nexcept ImportError:\n    pass", {"helper.py"}),
        ("from . import helper", {"helper.py"}),
        ("from .helper import x", {"helper.py"}),
        ("__import__('helper')", {"helper.py"}),
        ("import pack.inner", {"pack/__init__.py", "pack/inner.py", "pack/deep/more.py", "helper.py"}),
        ("from pack import inner", {"pack/__init__.py", "pack/inner.py", "pack/deep/more.py", "helper.py"}),
        ("from pack import constant", {"pack/__init__.py"}),
        ("from pack.deep import more", {"pack/__init__.py", "pack/deep/more.py"}),
        ("import bare.part", {"bare/part.py"}),
        ("from bare import part", {"bare/part.py"}),
        ("import random, json", set()),  # Python's own, though a neighbour has the name
        ("from . import random", {"random.py"}),
        ("from bench.api import Score", set()),
        ("import torch, nothing_of_the_sort", set()),
        ("from .. import beyond", set()),
        ("import main", set()),
    ],
)  # fmt: skip
def test_every_way_of_importing_a_neighbour_is_followed(
    tmp_path: Path, text: str, found: set[str]
) -> None:
    tree(
        tmp_path, main=text, helper="x = 1\nhelper = 2", other="", random="", bench__INIT="",
        pack__INIT="constant = 1", pack__inner="from .deep.more import y\nfrom .. import helper",
        pack__deep__more="y = 2", bare__part="",
    )  # fmt: skip
    assert read(tmp_path).texts.keys() == {"main.py", *found}


def test_circles_are_followed_once(tmp_path: Path) -> None:
    tree(tmp_path, main="import a", a="import b", b="import a, main")
    assert read(tmp_path).texts.keys() == {"main.py", "a.py", "b.py"}


def test_the_hash_is_that_of_the_code_wherever_it_stands(tmp_path: Path) -> None:
    files = {"main": "import pack.inner", "pack__INIT": "", "pack__inner": "x = 1"}
    here = read(tree(tmp_path / "here", **files))
    assert read(tree(tmp_path / "there", **files)).hash == here.hash
    commented = {**files, "pack__inner": '"""Doc."""\nx = 1  # one'}
    assert read(tree(tmp_path / "commented", **commented)).hash == here.hash
    others = {
        "deep": {**files, "pack__inner": "x = 2"},
        "more": {**files, "pack__INIT": "y = 1"},
        "main": {**files, "main": "import pack.inner as i"},
    }
    hashes = {read(tree(tmp_path / name, **other)).hash for name, other in others.items()}
    assert len({here.hash, *hashes}) == 4
    swapped = tree(tmp_path / "swapped", main="import a, b", a="x = 1", b="x = 2")
    other = tree(tmp_path / "other", main="import a, b", a="x = 2", b="x = 1")
    assert read(swapped).hash != read(other).hash
    tree(tmp_path / "here", unrelated="z = 3")
    assert read(tmp_path / "here").hash == here.hash


@pytest.mark.parametrize(
    "call", ["importlib.import_module('helper')", "import_module('.helper', __package__)"]
)
def test_a_neighbour_that_is_imported_by_a_call_is_refused(tmp_path: Path, call: str) -> None:
    tree(tmp_path, main=f"import importlib\ndef f():\n    {call}", helper="")
    with pytest.raises(
        UsageError, match="main.py imports '.?helper' by a call.*write: import helper"
    ):
        read(tmp_path)


def test_a_neighbour_that_is_reached_from_outside_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(
        tmp_path / "owned_pack", INIT="", main="from owned_pack.helper import x", helper="x = 1"
    )
    read(folder)  # without the package on the path, nothing of the folder is reached
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        UsageError, match="imports owned_pack.helper.*, which is helper.py .* as in: import helper"
    ):
        read(folder)


def test_a_neighbour_that_is_no_python_is_named(tmp_path: Path) -> None:
    tree(tmp_path, main="import helper", helper="def (")
    with pytest.raises(UsageError, match="helper.py is not Python"):
        read(tmp_path)
