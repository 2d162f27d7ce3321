"""One colour and one marker per method: declared by shipped ones, hashed and remembered for others."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_results import SHIPPED, Maker

from bench.plan.registry import Registry
from bench.report.figures.interactive import _SYMBOLS
from bench.report.figures.palette import COLOURS, FILE, MARKERS, Palette, pairs_of
from bench.report.write import write_report


def test_every_shipped_method_declares_a_pair_and_no_two_are_alike() -> None:
    without = Registry().entries("methods").keys() - SHIPPED.keys()
    assert not without, "declare a colour and a marker of bench/report/figures/palette.py"
    for name, (colour, marker) in SHIPPED.items():
        assert colour in COLOURS, name
        assert marker in MARKERS, name
    assert len(set(SHIPPED.values())) == len(SHIPPED)


def test_what_is_declared_is_what_the_class_has() -> None:
    registry = Registry()
    for name, pair in SHIPPED.items():
        method = registry.method(name)
        assert (method.colour, method.marker) == pair


def test_every_marker_can_be_drawn_on_the_page_and_is_another_one_there() -> None:
    symbols = [_SYMBOLS[marker] for marker in MARKERS]
    assert len(set(symbols)) == len(MARKERS)


@given(st.sets(st.text("abcdefghij-", min_size=1), max_size=40))
def test_plugins_get_pairs_of_their_own_that_no_shipped_method_has(names: set[str]) -> None:
    names -= SHIPPED.keys()
    pairs = pairs_of(names, SHIPPED, [])
    assert len(set(pairs.values())) == len(SHIPPED) + len(names)
    assert {n: pairs[n] for n in SHIPPED} == SHIPPED
    for name in names:
        assert pairs[name][0] not in ("black", "grey")


def test_a_plugins_pair_does_not_depend_on_what_else_is_shown() -> None:
    alone = pairs_of(["widest"], SHIPPED, [])["widest"]
    assert pairs_of(["widest", "fpgm", "dense"], SHIPPED, [])["widest"] == alone
    # Frozen: the hash asks for ("orange", "D"), which is magnitude's, and the next one is free.
    assert pairs_of(["widest"], {}, [])["widest"] == SHIPPED["magnitude"] == ("orange", "D")
    assert alone == ("orange", "v")


def colliding() -> tuple[str, str]:
    """Two names whose hashes ask for the same pair."""
    seen: dict[object, str] = {}
    for i in range(1000):
        name = f"plugin-{i}"
        pair = pairs_of([name], {}, [])[name]
        if pair in seen:
            return seen[pair], name
        seen[pair] = name
    raise AssertionError("a thousand names and not two alike")


def test_a_folder_remembers_so_that_a_newcomer_changes_nobody(tmp_path: Path) -> None:
    early, late = colliding()
    # `late` was there first: alone it has the pair that both ask for.
    first = pairs_of([late], SHIPPED, [tmp_path])[late]
    both = pairs_of([early, late], SHIPPED, [tmp_path])
    assert both[late] == first
    assert both[early] != first
    assert json.loads((tmp_path / FILE).read_text()) == {
        name: list(both[name]) for name in sorted((early, late))
    }
    # Without memory the first in the alphabet would have it.
    forgetful = pairs_of([early, late], SHIPPED, [])
    assert forgetful[min(early, late)] == first


def test_a_remembered_pair_that_a_shipped_method_has_taken_since_is_given_up(
    tmp_path: Path,
) -> None:
    taken = SHIPPED["dropnet"]
    (tmp_path / FILE).write_text(json.dumps({"widest": list(taken)}))
    assert pairs_of(["widest"], SHIPPED, [tmp_path])["widest"] != taken


@pytest.mark.parametrize("content", ["", "[]", '{"widest": 3}', '{"widest": ["pink", "o"]}', "{"])
def test_a_memory_that_is_none_is_as_if_there_were_none(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    assert pairs_of(["widest"], SHIPPED, [tmp_path]) == pairs_of(["widest"], SHIPPED, [])


def test_labels_of_a_method_share_its_colour_and_are_like_no_other_method() -> None:
    labels = [("magnitude", "magnitude"), ("magnitude", "magnitude[step=none]"),
              ("magnitude", "magnitude[scope=global]"), ("dropnet", "dropnet")]  # fmt: skip
    palette = Palette(SHIPPED, labels)
    styles = [palette.of_method(label) for _, label in labels]
    assert styles[0].line == "solid"
    assert len({style.colour for style in styles[:3]}) == 1
    assert len({(style.colour, style.marker) for style in styles}) == 4
    others = {(COLOURS[c], m) for n, (c, m) in SHIPPED.items() if n != "magnitude"}
    assert not others & {(style.colour, style.marker) for style in styles[:3]}


def test_a_control_has_the_colour_of_what_it_follows_and_is_hollow() -> None:
    palette = Palette(SHIPPED, [("dropnet", "dropnet")])
    random, dense = (palette.of_control(name, "dropnet") for name in ("random", "dense"))
    assert (random.colour, random.marker, random.line) == (COLOURS["blue"], "s", "dotted")
    assert (dense.colour, dense.marker, dense.line) == (COLOURS["blue"], "*", "dashdot")
    assert random.is_hollow
    assert palette.of_control("random", "not shown").colour == COLOURS["black"]


def test_a_report_with_a_plugin_remembers_it_and_a_second_one_draws_it_the_same(
    tmp_path: Path,
) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(98.0)
    maker.trial(95.0, method="widest", target=2.0)
    for out in ("a", "b"):
        write_report([maker.results], tmp_path / out, SHIPPED, ("svg",))
    assert json.loads((tmp_path / "r" / FILE).read_text()) == {"widest": ["orange", "v"]}
    for file in (tmp_path / "a" / "figures").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "figures" / file.name).read_bytes()
        assert COLOURS["orange"].lower() in file.read_text().lower()


def test_what_a_folder_remembers_is_kept_for_those_that_are_not_shown(tmp_path: Path) -> None:
    early, late = colliding()
    first = pairs_of([early], SHIPPED, [tmp_path])[early]
    other = pairs_of([late], SHIPPED, [tmp_path])[late]  # a report without the first
    assert other != first
    assert pairs_of([early, late], SHIPPED, [tmp_path])[early] == first


def test_each_folder_keeps_its_own_memory_and_the_first_one_counts(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, pair in zip(folders, (["green", "X"], ["sky", "X"]), strict=True):
        folder.mkdir()
        (folder / FILE).write_text(json.dumps({"widest": pair}))
    assert pairs_of(["widest"], SHIPPED, folders)["widest"] == ("green", "X")
    assert json.loads((folders[1] / FILE).read_text()) == {"widest": ["sky", "X"]}


@pytest.mark.parametrize("pair", [("", ""), ("red", "o"), ("green", "?")])
def test_a_method_that_declares_no_pair_is_drawn_as_a_plugin_is(pair: tuple[str, str]) -> None:
    declared = {**SHIPPED, "new": pair}
    assert pairs_of(["new"], declared, [])["new"] == pairs_of(["new"], SHIPPED, [])["new"]


def test_many_labels_of_a_method_are_all_different() -> None:
    labels = [("magnitude", f"magnitude[a={i:02d}]") for i in range(30)]
    palette = Palette(SHIPPED, labels)
    assert len({palette.of_method(label) for _, label in labels}) == 30


def test_a_report_whose_formats_draw_nothing_remembers_nothing(tmp_path: Path) -> None:
    maker = Maker(tmp_path / "r")
    maker.trial(95.0, method="widest", target=2.0)
    write_report([maker.results], tmp_path / "out", SHIPPED, ("csv", "md"))
    assert not (tmp_path / "r" / FILE).exists()


def test_two_plugins_that_folders_gave_the_same_pair_are_told_apart_together(
    tmp_path: Path,
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, name in zip(folders, ("widest", "deepest"), strict=True):
        folder.mkdir()
        (folder / FILE).write_text(json.dumps({name: ["green", "X"]}))
    pairs = pairs_of(["widest", "deepest"], SHIPPED, folders)
    assert pairs["widest"] == ("green", "X")
    assert pairs["deepest"] != pairs["widest"]
    # Alone, each folder's report is as it was.
    assert pairs_of(["deepest"], SHIPPED, folders[1:])["deepest"] == ("green", "X")
