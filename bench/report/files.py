"""Files of a report."""

from pathlib import Path

import pandas as pd

from bench.store.atomic import whole_file


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(content)
    return path


def write_text(path: Path, content: str) -> Path:
    return write_bytes(path, content.encode())


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table; floats have all the digits that tell them apart."""
    return write_text(path, frame.to_csv(index=False, lineterminator="\n"))
