"""Files that are there whole or not at all: one, or all of a folder together."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.errors import UsageError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a name to write a file under; the file gets its own name at the end, or is deleted."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def appearing(out: Path, name: str) -> Iterator[Path]:
    """Yield a folder to write into; its files get their place together at the end, or not at all."""
    is_new = [p for p in (out, *out.parents) if not p.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=out))
    except OSError as error:
        raise UsageError(
            f"The folder {out} cannot be written ({error.strerror}); --out names another one"
        ) from error
    try:
        yield part
        part.chmod(0o755)
        target = out / name
        if not target.exists():
            part.replace(target)
            return
        for file in sorted(part.iterdir()):  # another form was exported before
            os.replace(file, target / file.name)  # noqa: PTH105
        part.rmdir()
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for folder in is_new:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise
