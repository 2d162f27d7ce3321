"""Files of a report: each appears whole, under a temporary name first."""

import os
from pathlib import Path

import pandas as pd


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    part.replace(path)
    return path


def write_text(path: Path, content: str) -> Path:
    return write_bytes(path, content.encode())


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table; floats have all the digits that tell them apart."""
    return write_text(path, frame.to_csv(index=False, lineterminator="\n"))
