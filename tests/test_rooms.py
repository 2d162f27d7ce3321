"""The rooms of `bench/`: each says what it may import, nothing imports upwards, nothing in a circle."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BENCH = ROOT / "bench"
PLUGIN_FOLDERS = ("methods", "models", "datasets", "suites")
ROOMS = sorted(
    p.parent.name for p in BENCH.glob("*/__init__.py") if p.parent.name not in PLUGIN_FOLDERS
)
# Single files beside the rooms: what they may import is said here, for a room says it of itself.
FILES = {
    "__init__": set[str](), "__main__": {"cli"}, "apportion": set[str](), "choices": set[str](),
    "errors": set[str](), "regular_file": set[str](), "seeds": set[str](),
    "system_errors": {"errors"},
    "api": {"data", "errors", "graph", "pruning", "regular_file", "seeds", "training"},
}  # fmt: skip
PROMISED = {"run", "open", "cut", "units", "prune"}  # functions that the library will have


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules() -> dict[str, Path]:
    """Every module of the harness by its import name; plug-ins are not part of it."""
    files = (p for p in BENCH.rglob("*.py") if p.relative_to(BENCH).parts[0] not in PLUGIN_FOLDERS)
    return {module_of(p): p for p in files}


def imports_of(source: str, known: set[str]) -> Iterator[str]:
    """Every module of `bench` that a source imports, inside functions and for types alone too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "bench")
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "relative"
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "bench":
            for alias in node.names:
                deeper = f"{node.module}.{alias.name}"
                yield deeper if deeper in known else str(node.module)


def arrows() -> dict[str, set[str]]:
    files = modules()
    return {name: set(imports_of(p.read_text(), set(files))) for name, p in files.items()}


def room_of(module: str) -> str:
    """The room a module stands in, or the name of a single file beside them."""
    return module.split(".")[1] if "." in module else "__init__"


def allowed(room: str) -> set[str]:
    """The rooms that a room's own first page says it may import."""
    if room in FILES:
        return FILES[room]
    (listed,) = re.findall(r"^May import: ([^.]*)\.$", page_of(room), flags=re.M)
    return set(re.split(r",\s+", listed))


def page_of(room: str) -> str:
    return ast.get_docstring(ast.parse((BENCH / room / "__init__.py").read_text())) or ""


def wrong_arrows(found: dict[str, set[str]]) -> list[str]:
    wrong = []
    for module, imported in sorted(found.items()):
        room = room_of(module)
        wrong += [
            f"{module} imports {other}"
            for other in sorted(imported)
            if room_of(other) != room and room_of(other) not in allowed(room) | {"__init__"}
        ]
    return wrong


def circle(found: dict[str, set[str]]) -> list[str]:
    try:
        list(TopologicalSorter(found).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_nothing_is_imported_against_the_direction() -> None:
    found = arrows()
    assert len(found) > 100
    assert not wrong_arrows(found)


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert not circle(arrows())


def test_what_rooms_say_they_may_import_has_no_circle_and_is_what_they_import() -> None:
    rooms = {room: allowed(room) for room in ROOMS}
    assert not circle(rooms)
    used: dict[str, set[str]] = {room: set() for room in ROOMS}
    for module, imported in arrows().items():
        if room_of(module) in used:
            used[room_of(module)] |= {room_of(m) for m in imported} - {room_of(module), "__init__"}
    assert used == rooms  # a leave that nobody takes is withdrawn


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for_and_which_file_to_open_first(room: str) -> None:
    page = page_of(room)
    assert len(page.splitlines()[0]) > 20
    (first,) = re.findall(r"^Open first: (\S+)$", page, flags=re.M)
    assert (BENCH / room / first).is_file()
    for named in re.findall(r"`(\w+\.py)`", page):
        assert (BENCH / room / named).is_file(), named


def test_no_room_has_the_name_of_a_function_that_the_library_will_have() -> None:
    assert not PROMISED & set(ROOMS)


def test_a_planted_circle_and_a_planted_arrow_are_seen() -> None:
    found = arrows()
    first, second = "bench.graph.channels", "bench.graph.count"
    assert second not in found[first]
    assert circle({**found, first: found[first] | {second}})
    upwards = {**found, first: {"bench.training.loop"}}
    assert wrong_arrows(upwards) == ["bench.graph.channels imports bench.training.loop"]
    source = "def f():\n    from bench.sweep import execute\n"
    assert list(imports_of(source, set(found))) == ["bench.sweep.execute"]


def test_plugins_import_the_contract_alone_and_their_neighbours() -> None:
    for kind in ("methods", "models", "datasets"):
        for file in (ROOT / kind).glob("*.py"):
            imported = set(imports_of(file.read_text(), set()))
            strange = {m for m in imported if m != "bench.api" and room_of(m) != kind}
            assert not strange, file


def test_the_map_in_the_documentation_has_every_room_above_those_that_it_imports() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"^```\n(.*?)^```", text, flags=re.M | re.S)
    floors = [line.split("/")[0] for line in drawn.splitlines()]
    assert sorted(floors) == ROOMS
    for room in ROOMS:
        below = floors[floors.index(room) + 1 :]
        assert allowed(room) & set(ROOMS) <= set(below), room


def test_files_that_the_documentation_sends_to_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{'|'.join(ROOMS)})/[\w/.]+\.py)`", text)
    assert len(named) > 10
    for name in named:
        assert (BENCH / name).is_file(), name
