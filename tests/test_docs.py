"""Code in the documentation does what is written beside it."""

import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_library_example_of_dropneuron_finds_the_inputs_that_matter() -> None:
    text = (DOCS / "methods" / "dropneuron.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    program = "import torch; torch.set_num_threads(1)\n" + code
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert told.stdout == "inputs that matter: [4, 11]\n"
