"""Files that were changed: read as what they say, or refused in words of ours; never slow, never large."""

import random
import signal
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mutations import at_random
from readers import Reader, readers

from bench.errors import BenchError
from bench.store.json_values import RecordError

OURS = (BenchError, RecordError)
MOST_SECONDS = 1.0  # of the processor: how long others keep it from us says nothing
MOST_BYTES = 100 * 10**6
SECONDS_A_PIXEL, BYTES_A_PIXEL = (
    50e-9,
    16,
)  # beside that, of photographs: decoded, converted, resized
HANGS_AFTER_SECONDS = 30.0
SHORT, LONG = 16, 800  # inputs for each reader

_ALL = cache(readers)
NAMES = [r.name for r in _ALL()]


class _Hangs(BaseException):
    """Raised into a reader that does not come back; nothing catches it."""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _memory(field: str) -> int:
    """Return bytes of this process: VmRSS, now, or VmHWM, the most since it was set back."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def _set_back_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _outcome(reader: Reader, path: Path) -> str:
    """Read a file; say how it ended, or what was wrong with that."""
    pixels = reader.pixels(path)
    _set_back_peak()
    before, started = _memory("VmRSS"), time.process_time()
    with _alarm(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ended = "right" if reader.is_right(path) else "WRONG: it read something else"
        except OURS as error:
            text = str(error)
            ended = "refused" if _is_one_sentence(text) else f"WRONG: said {text[:300]!r}"
        except _Hangs:
            ended = "WRONG: it hangs"
        except BaseException as error:
            ended = f"WRONG: {type(error).__name__}: {str(error)[:200]}"
    seconds, more = time.process_time() - started, _memory("VmHWM") - before
    if seconds > MOST_SECONDS + SECONDS_A_PIXEL * pixels:
        return f"WRONG: it took {seconds:.1f} seconds ({ended})"
    return (
        f"WRONG: it took {more / 1e6:.0f} MB ({ended})"
        if more > MOST_BYTES + BYTES_A_PIXEL * pixels
        else ended
    )


def _is_one_sentence(text: str) -> bool:
    return 0 < len(text) < 1500 and "Traceback" not in text and "\x1b" not in text


def _fuzz(reader: Reader, inputs: int, folder: Path) -> Counter[str]:
    """Read so many changed files, every other one changed inside its structure."""
    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(reader.sound)
    assert reader.is_right(path)
    found: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(inputs):
        rng = random.Random(f"{reader.name} {number}")
        change = reader.change if number % 2 else at_random
        path.write_bytes(change(rng, reader.sound))
        ended = _outcome(reader, path)
        if ended.startswith("WRONG"):
            wrong.append(f"{reader.name}, input {number}: {ended}; {path.read_bytes()[:120]!r}")
        found[ended] += 1
    assert not wrong, f"{len(wrong)} of {inputs}:\n" + "\n".join(wrong[:10])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_file_is_read_right_or_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reader = next(r for r in _ALL() if r.name == name)
    found = _fuzz(reader, SHORT, tmp_path)
    assert found["refused"] > 0
    assert not (tmp_path / "a-pickle-ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_changed_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reader = next(r for r in _ALL() if r.name == name)
    found = _fuzz(reader, LONG, tmp_path)
    with capsys.disabled():
        print(f"\n{name}: {LONG} inputs, {found['right']} read right, {found['refused']} refused")
    assert not (tmp_path / "a-pickle-ran").exists()
