"""Files that appear whole: as readable as the user's umask says, and named when a disk is full."""

import errno
import os
import pickle
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bench.errors import UsageError
from bench.store.atomic import appearing, whole_file
from bench.system_errors import CannotWrite, cannot_write, file_trouble


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_library_writes_for_its_owner_alone_is_as_the_umask_says(
    tmp_path: Path, umask: int
) -> None:
    with whole_file(tmp_path / "weights.safetensors") as part:
        save_file({"w": torch.zeros(3)}, part)
    assert mode(tmp_path / "weights.safetensors") == 0o666 & ~umask


def test_a_folder_that_appears_is_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    for _ in range(2):  # the second time its files take the place of the first ones
        with appearing(tmp_path / "exports", "trial") as part:
            save_file({"w": torch.zeros(3)}, part / "weights.safetensors")
            (part / "load.py").write_text("pass")
    assert mode(tmp_path / "exports") == mode(tmp_path / "exports" / "trial") == 0o777 & ~umask
    files = sorted((tmp_path / "exports" / "trial").iterdir())
    assert [f.name for f in files] == ["load.py", "weights.safetensors"]
    assert {mode(f) for f in files} == {0o666 & ~umask}


def full(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_of_a_library(path: Path) -> None:
    raise RuntimeError("I/O error: No space left on device (os error 28)")


def over_quota(path: Path) -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize(
    ("write", "why"),
    [(full, "No space left on device"), (full_of_a_library, "No space left on device"),
     (over_quota, os.strerror(errno.EDQUOT))],
)  # fmt: skip
def test_a_full_disk_is_named_with_the_file_and_leaves_the_old_one(
    tmp_path: Path, write: Callable[[Path], None], why: str
) -> None:
    path = tmp_path / "result.json"
    path.write_text("old")
    with pytest.raises(CannotWrite) as caught, whole_file(path) as part:
        part.write_text("half of it")
        write(part)
    assert str(caught.value).startswith(f"{path} cannot be written ({why}); free some space")
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]
    assert path.read_text() == "old"
    named = pytest.raises(UsageError, match=f"exports cannot be written \\({why}\\)")
    with named, appearing(tmp_path / "exports", "trial") as part:
        write(part)
    assert not (tmp_path / "exports").exists()


def test_the_error_of_a_disk_is_found_behind_another_and_survives_a_pipe(tmp_path: Path) -> None:
    outer = ValueError("something else")
    outer.__cause__ = OSError(errno.ENOSPC, "full", str(tmp_path / "x"))
    found = cannot_write(outer, tmp_path)
    assert found is not None
    assert str(found).startswith(str(tmp_path / "x"))
    assert str(pickle.loads(pickle.dumps(found))) == str(found)
    ours = PermissionError(errno.EACCES, "no", str(tmp_path / "phases"))
    assert cannot_write(ours, tmp_path) is not None
    assert cannot_write(ours, tmp_path / "other") is None  # a method's own file
    assert cannot_write(ValueError("no disk in it"), tmp_path) is None
    assert not file_trouble(ValueError("no disk in it"))
