"""Code in the documentation does what is written beside it."""

import re
import subprocess
import sys
from pathlib import Path

from bench.report import columns, statistics

DOCS = Path(__file__).parents[1] / "docs"


def test_the_library_example_of_dropneuron_finds_the_inputs_that_matter() -> None:
    text = (DOCS / "methods" / "dropneuron.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    program = "import torch; torch.set_num_threads(1)\n" + code
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert told.stdout == "inputs that matter: [4, 11]\n"


def test_every_column_of_the_tables_is_defined() -> None:
    """Columns whose beginning or end is defined once for all of them are not named singly."""
    text = (DOCS / "definitions.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_]+)`", text))
    runs = {*columns.IDENTITY, *columns.metrics(), *columns.FILE, *columns.MACHINE_COST}
    runs |= {name for name in columns.LATENCY if not name.endswith("_batch32")}
    differs = {f"difference_{name}" for name in statistics.COLUMNS}
    assert not (runs | differs) - named
