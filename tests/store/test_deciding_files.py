"""Whatever decides a training's numbers is in the key of every phase."""

import ast
from pathlib import Path

from bench.store.source_hash import _DECIDING_FILES, _DECIDING_ROOMS

BENCH = Path(__file__).resolve().parents[2] / "bench"
HARMLESS = {"choices", "errors", "regular_file", "store"}  # words for the user; files and hashes


def test_every_file_that_the_deciding_rooms_import_is_hashed() -> None:
    hashed = {*_DECIDING_ROOMS, *(name.removesuffix(".py") for name in _DECIDING_FILES)}
    imported = set()
    for room in _DECIDING_ROOMS:
        for file in (BENCH / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("bench."):
                    imported.add(str(node.module).split(".")[1])
    assert imported - HARMLESS == hashed
