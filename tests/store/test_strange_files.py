"""Pipes, devices and folders in a file's place are named; nothing waits for them."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.plan.request import parse_setting, requests
from bench.regular_file import NoRegularFile, check_regular, read_regular
from bench.store.json_values import RecordError, RecordMissing, read_json
from bench.store.records import read_plan
from bench.store.trial_identity import TrialSpec

Make = Callable[[Path], None]


def make_socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's address may have 108 letters
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


STRANGE: list[tuple[Make, str]] = [
    (lambda path: os.mkfifo(path), "named pipe"),
    (lambda path: path.mkdir(), "folder"),
    (lambda path: path.symlink_to("/dev/zero"), "device"),
    (make_socket, "socket"),
]
NAMES = ["pipe", "folder", "device", "socket"]


@pytest.mark.parametrize(("make", "word"), STRANGE, ids=NAMES)
def test_what_is_no_file_is_named(tmp_path: Path, make: Make, word: str) -> None:
    path = tmp_path / "strange.json"
    make(path)
    with pytest.raises(NoRegularFile) as caught:
        check_regular(path)
    assert word in caught.value.strerror
    with pytest.raises(RecordError, match=word):
        read_json(path)
    suite = path.rename(tmp_path / "suite.toml")
    with pytest.raises(UsageError, match=word):
        requests(suite, {}, [])


def test_a_link_that_leads_nowhere_is_told_from_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="a link to a file that is not there"):
        check_regular(tmp_path / "link")
    with pytest.raises(FileNotFoundError) as caught:
        check_regular(tmp_path / "nothing")
    assert "link" not in caught.value.strerror
    with pytest.raises(RecordMissing):
        read_json(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b\0"])
def test_a_name_that_no_file_can_have_is_an_error_like_others(tmp_path: Path, name: str) -> None:
    with pytest.raises(NoRegularFile, match="such a name"):
        check_regular(tmp_path / name)


def test_a_file_may_be_too_large_for_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert read_regular(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(OSError, match="11 bytes, and 10 are the most"):
        read_regular(tmp_path / "a", 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methods = " + "[" * 100_000, "nested too deeply"),
        ("seeds = " + "9" * 5000, "not valid TOML"),
        ('methods = "\xff"'.encode("latin-1"), "not valid TOML"),
        ('methods="a"\n[options.a]\nx=' + "[" * 300 + "]" * 300, "options.a.x"),
        ("methods = 1979-05-27", "methods"),
        ("methods = nan", "methods"),
    ],
    ids=["deep", "long number", "Latin-1", "deep value", "date", "nan"],
)
def test_a_suite_that_cannot_be_is_one_short_sentence(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    suite = tmp_path / "suite.toml"
    suite.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as caught:
        requests(suite, {}, [])
    message = str(caught.value)
    assert words in message
    assert str(suite) in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_deep_value_of_a_flag_is_text() -> None:
    deep = "[" * 50_000
    assert parse_setting(f"a.b={deep}") == ("a", "b", [deep])


def test_a_specification_of_another_schema_is_not_read_as_one_of_this() -> None:
    spec = TrialSpec("dense", 1, "lenet-5", "digits", 0).as_json()
    assert TrialSpec.from_json(spec).as_json() == spec
    with pytest.raises(RecordError, match="schema is 2, this version reads 1"):
        TrialSpec.from_json(spec | {"schema": 2})


@pytest.mark.parametrize("wrong", ["../../../../etc", "/etc", "", "ABCDEF012345", "0123456789abc"])
def test_a_plan_names_trials_by_ids_and_not_by_paths(tmp_path: Path, wrong: str) -> None:
    spec = TrialSpec("dense", 1, "lenet-5", "digits", 0)
    trials = {spec.id: {"spec": spec.as_json()}, wrong: {"spec": spec.as_json()}}
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"schema": 1, "trials": trials}))
    with pytest.raises(RecordError, match="where an id should be"):
        read_plan(file)
    del trials[wrong]
    file.write_text(json.dumps({"schema": 1, "trials": trials}))
    assert list(read_plan(file).trials) == [spec.id]
