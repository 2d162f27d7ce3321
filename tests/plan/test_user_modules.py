"""A user's file is imported with its own neighbours, and from the text that was read."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from bench.errors import UsageError
from bench.plan.user_modules import import_files
from bench.store import source_hash
from bench.store.source_files import read_source_files


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def load(path: Path) -> ModuleType:
    return import_files(read_source_files(path))


def test_neighbours_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    main = "import helper\nfrom helper import NAME\ndef late():\n    import lazy\n    return lazy.NAME\n"
    for name in ("a", "b"):
        write(
            tmp_path / name, main=main, helper=f"NAME = {name!r}", lazy=f"NAME = 'late ' + {name!r}"
        )
    first, second = (load(tmp_path / name / "main.py") for name in ("a", "b"))
    assert (first.NAME, first.helper.NAME, first.late()) == ("a", "a", "late a")
    assert (second.NAME, second.helper.NAME, second.late()) == ("b", "b", "late b")
    assert not {"helper", "lazy", "main"} & sys.modules.keys()
    assert str(tmp_path / "a") not in sys.path


def test_a_neighbour_that_two_files_share_is_one_module(tmp_path: Path) -> None:
    write(tmp_path, one="import shared", two="import shared, one", shared="class Thing: pass")
    one, two = load(tmp_path / "one.py"), load(tmp_path / "two.py")
    assert one.shared is two.shared
    assert two.one is one
    assert load(tmp_path / "one.py") is one


def test_every_form_of_import_binds_what_it_binds_in_python(tmp_path: Path) -> None:
    write(tmp_path / "pack" / "deep", __init__="", leaf="from ... import beside\nV = beside.V")
    write(tmp_path / "pack", __init__="from .deep import leaf as top_leaf")
    write(tmp_path, beside="V = 5", main=(
        "import pack.deep.leaf\nimport pack.deep.leaf as leaf\nfrom pack import deep, top_leaf\n"
        "from pack.deep import *\nfrom . import beside\nfrom .beside import V as again\nimport os.path\n"
        "import torch.nn as nn\nwhole = __import__('pack.deep.leaf')\n"
    ))  # fmt: skip
    main = load(tmp_path / "main.py")
    assert main.pack.deep.leaf is main.leaf is main.top_leaf
    assert main.deep is main.pack.deep
    assert main.whole is main.pack
    assert main.leaf.V == main.again == main.beside.V == 5
    assert main.os is sys.modules["os"]
    assert main.nn is sys.modules["torch.nn"]


def test_what_was_read_is_what_runs_even_when_it_is_imported_late(tmp_path: Path) -> None:
    text = "def late():\n    import lazy\n    return lazy.V\n"
    write(tmp_path, main=text, lazy="V = 1")
    files = read_source_files(tmp_path / "main.py")
    write(tmp_path, main=text.replace("lazy.V", "-1"), lazy="V = 2")
    assert import_files(files).late() == 1
    assert load(tmp_path / "main.py").late() == -1
    assert import_files(files).late() == 1


def test_compiled_files_are_neither_read_nor_written(tmp_path: Path) -> None:
    import importlib.util
    import py_compile

    path = write(tmp_path, main="V = 1") / "main.py"
    time = path.stat()
    path.write_text("V = 2")
    py_compile.compile(str(path), importlib.util.cache_from_source(str(path)))
    path.write_text("V = 1")
    import os

    os.utime(path, ns=(time.st_atime_ns, time.st_mtime_ns))
    assert load(path).V == 1
    fresh = write(tmp_path / "fresh", main="import beside", beside="") / "main.py"
    load(fresh)
    assert not (fresh.parent / "__pycache__").exists()


@pytest.mark.parametrize("name", ["01_net", "my-net", "my.net", "class"])
def test_a_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: "import beside\nV = beside.V"}, beside="V = 3")
    assert load(tmp_path / f"{name}.py").V == 3


def test_an_import_that_was_not_seen_is_refused(tmp_path: Path) -> None:
    write(tmp_path, main="name = 'hel' + 'per'\nmodule = __import__(name)", helper="")
    with pytest.raises(UsageError, match="helper.py is imported in a way that cannot be seen"):
        load(tmp_path / "main.py")


def test_a_file_that_fails_can_be_mended(tmp_path: Path) -> None:
    write(tmp_path, main="import helper", helper="raise RuntimeError('on purpose')")
    with pytest.raises(RuntimeError):
        load(tmp_path / "main.py")
    write(tmp_path, helper="V = 1")
    assert load(tmp_path / "main.py").helper.V == 1


def test_phases_take_in_the_same_hash(tmp_path: Path) -> None:
    text = "def f(trial):\n    import lazy\n    return lazy.V\n"
    hashes = set()
    for number in (1, 2):
        folder = write(tmp_path / str(number), main=text, lazy=f"V = {number}")
        files = read_source_files(folder / "main.py")
        module = import_files(files)
        assert source_hash.of_module(module.__name__) == files.hash
        hashes.add(str(source_hash.of_function(module.f)["code"]))
    assert len(hashes) == 2
