"""A killed pytest leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
TEST = """
import subprocess, sys
from pathlib import Path

def test_that_waits():
    code = "import sys, time; print('up', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True,
                             start_new_session=True)
    child.stdout.readline()
    Path("child").write_text(str(child.pid))
    print("waiting", file=sys.__stdout__, flush=True)
    child.wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux can promise it")
def test_what_a_test_started_is_killed_with_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from child_processes import children_end_with_us\n")
    (tmp_path / "test_waiting.py").write_text(TEST)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        ".",
    ]
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    pytest_process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert pytest_process.stdout is not None
    assert any("waiting" in line for line in pytest_process.stdout)
    os.kill(int((tmp_path / "child").read_text()), 0)  # it is there
    pytest_process.send_signal(signal.SIGKILL)
    # The child has the same stderr: this returns when both are gone.
    pytest_process.communicate(timeout=60)
