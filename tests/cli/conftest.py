"""Call the command line in this process, as a shell would."""

import sys
from pathlib import Path

import pytest
from commands_shell import Bench, Shell

from bench.cli.main import main


@pytest.fixture
def bench(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Bench:
    """Return a function that runs `bench` with arguments, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("BENCH_DATA", raising=False)

    def call(*arguments: str) -> Shell:
        monkeypatch.setattr(sys, "argv", ["bench", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Shell(code if isinstance(code, int) else 0, printed.out, printed.err)

    return call
