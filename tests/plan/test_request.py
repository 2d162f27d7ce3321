"""What users type: seeds, targets, settings and suite files, good and bad."""

from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.plan.request import parse_seeds, parse_setting, parse_targets, requests


@pytest.mark.parametrize(
    ("given", "seeds"),
    [
        ("0-3", [0, 1, 2, 3]),
        ("5", [5]),
        ("0,2,2,1", [0, 2, 1]),
        ([3, 4], [3, 4]),
        ("0-1,7", [0, 1, 7]),
    ],
)
def test_seeds_are_ranges_and_lists(given: object, seeds: list[int]) -> None:
    assert parse_seeds(given) == seeds  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", "a", "1-", "-1", "3-1", "1.5", "0--2", [-1]])
def test_malformed_seeds_are_refused_with_the_text(given: object) -> None:
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds(given)  # type: ignore[arg-type]


def test_targets_above_one_are_compressions_and_below_one_shares_removed() -> None:
    assert parse_targets("8,2") == [2.0, 8.0]
    assert parse_targets("0.5,0.9") == pytest.approx([2.0, 10.0])
    assert parse_targets([4, 0.75]) == pytest.approx([4.0])


@pytest.mark.parametrize("given", ["1", "0", "-2", "nan", "inf", "x", "", "2,1"])
def test_impossible_targets_are_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--targets"):
        parse_targets(given)


def test_settings_are_typed_values_or_grids() -> None:
    assert parse_setting("dropnet.drop=0.1") == ("dropnet", "drop", [0.1])
    assert parse_setting("dropnet.scope=global") == ("dropnet", "scope", ["global"])
    assert parse_setting("edropout.rescore=true,false") == ("edropout", "rescore", [True, False])


@pytest.mark.parametrize("given", ["drop=1", "dropnet.drop", "dropnet.=1", ""])
def test_malformed_settings_are_refused(given: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_setting(given)


def suite(folder: Path, text: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(text)
    return file


def test_a_suite_has_blocks_that_change_the_top_and_flags_win(tmp_path: Path) -> None:
    file = suite(
        tmp_path,
        'methods = "dense"\nseeds = "0-4"\n[options.dropnet]\ndrop = [0.1, 0.2]\n'
        '[[run]]\nmodels = "lenet-5"\n[[run]]\nmethods = ["dropnet"]\nseeds = [7]\n',
    )
    first, second = requests(file, {"budget": "full"}, ["dropnet.scope=global"])
    assert (first.models, first.methods, first.seeds) == ("lenet-5", "dense", "0-4")
    assert (second.methods, second.seeds) == (["dropnet"], [7])
    assert first.budget == second.budget == "full"
    assert second.options["dropnet"] == {"drop": [0.1, 0.2], "scope": "global"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods = ", "not valid TOML"),
        ('metods = "dense"', "Did you mean 'methods'"),
        ('methods = "dense"\ntargets = {a = 1}', "targets"),
        ('methods = "dense"\nbudget = "huge"', "budget"),
        ("[[run]]\nmethods = 3", "methods"),
        ("", "Say which methods"),
    ],
)
def test_a_bad_suite_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        requests(suite(tmp_path, text), {}, [])


def test_a_missing_suite_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        requests(tmp_path / "none.toml", {}, [])
