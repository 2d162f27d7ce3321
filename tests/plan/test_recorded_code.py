"""The code of a record is run when it is that code, and when its reader allowed it."""

from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.plan import plugins
from bench.plan.recorded_code import NotRunUnasked, registry_of_record, registry_of_run
from bench.plan.registry import Registry
from bench.store.source_copies import SourceCopies, remember
from bench.store.source_files import SourceFiles, read_source_files
from bench.store.trial_identity import TrialSpec

NETWORK = "from helper import MARK\nfrom bench.api import network\n\ndef build(n, shape):\n    return MARK\n"
SPEC = TrialSpec("dense", 1, "net.py:build", "digits", 0)


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write(tmp_path, 1)
    return tmp_path / "net.py"


@pytest.fixture
def copies(tmp_path: Path) -> SourceCopies:
    return SourceCopies(tmp_path / "results" / "sources")


def write(folder: Path, mark: int) -> SourceFiles:
    (folder / "net.py").write_text(NETWORK)
    (folder / "helper.py").write_text(f"MARK = {mark}\n")
    return read_source_files(folder / "net.py")


def mark(registry: Registry) -> object:
    return registry.model("net.py:build")(10, (1, 8, 8))


def of(files: SourceFiles) -> TrialSpec:
    return replace(SPEC, sources={"model": files.hash})


def test_a_file_that_nobody_named_or_ran_is_not_run(net: Path, copies: SourceCopies) -> None:
    files = read_source_files(net)
    for there in ("there is no copy of it", "name it if you trust it"):
        with pytest.raises(NotRunUnasked, match=there) as refused:
            registry_of_record(Registry(), of(files), copies)
        for said in ("net.py:build", files.hash, "--plugin "):
            assert said in str(refused.value)
        copies.keep(files)


def test_the_file_that_is_named_runs_if_it_is_that_code(net: Path, copies: SourceCopies) -> None:
    spec = of(read_source_files(net))
    named = Registry([net], for_records=True)
    assert mark(registry_of_record(named, spec, copies)) == 1
    copies.keep(read_source_files(net))
    write(net.parent, 2)
    with pytest.raises(NotRunUnasked):
        registry_of_record(Registry([net], for_records=True), spec, copies)
    copy = copies.folder / str(spec.sources["model"]) / "net.py"
    again = Registry([copy], for_records=True)
    assert mark(registry_of_record(again, spec, copies)) == 1
    assert mark(again) == 2  # what is typed now is what stands there now


def test_code_that_was_run_before_is_taken_from_its_place_or_from_the_copy(
    net: Path, copies: SourceCopies
) -> None:
    files = read_source_files(net)
    remember(files)
    found = registry_of_record(Registry(), of(files), copies)  # no copy is needed
    assert found.find("models", "net.py:build").path == net
    write(net.parent, 2)
    with pytest.raises(UsageError, match=f"{files.hash} .*has changed since: there is no copy"):
        registry_of_record(Registry(), of(files), copies)
    copies.keep(files)
    found = registry_of_record(Registry(), of(files), copies)
    assert mark(found) == 1
    assert copies.folder in found.find("models", "net.py:build").path.parents
    net.unlink()
    assert mark(registry_of_record(Registry(), of(files), copies)) == 1
    inner = copies.folder / files.hash / "helper.py"
    inner.write_text("MARK = 3\n")
    with pytest.raises(UsageError, match="it was changed"):
        registry_of_record(Registry(), of(files), copies)


@pytest.mark.parametrize("code", ["", None, "../..", "f" * 31, ["x"], 3])
def test_what_is_no_hash_runs_nothing(net: Path, copies: SourceCopies, code: object) -> None:
    remember(read_source_files(net))
    spec = replace(SPEC, sources={"model": code})  # type: ignore[dict-item]
    with pytest.raises(UsageError):
        registry_of_record(Registry(), spec, copies)


def test_a_file_of_an_older_record_has_to_be_named(net: Path, copies: SourceCopies) -> None:
    remember(read_source_files(net))
    with pytest.raises(NotRunUnasked, match="older version kept no hash"):
        registry_of_record(Registry(), SPEC, copies)
    assert mark(registry_of_record(Registry([net], for_records=True), SPEC, copies)) == 1


def test_a_run_goes_on_with_the_code_that_was_planned(net: Path, copies: SourceCopies) -> None:
    files = read_source_files(net)
    copies.keep(files)
    assert mark(registry_of_run(Registry(), of(files), copies)) == 1
    write(net.parent, 2)
    assert mark(registry_of_run(Registry(), of(files), copies)) == 1
    (net.parent / "helper.py").write_text("def (")  # in the middle of an edit
    assert mark(registry_of_run(Registry(), of(files), copies)) == 1
    net.unlink()
    assert mark(registry_of_run(Registry(), of(files), copies)) == 1


class _Distribution:
    def __init__(self, version: str) -> None:
        self.name, self.version = "their-networks", version


def test_an_installed_package_stands_for_its_plugins_by_its_version(
    net: Path, copies: SourceCopies, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = EntryPoint("theirs", "their_networks.nets:build", "bench.models")

    def install(version: str) -> Registry:
        vars(point)["dist"] = _Distribution(version)
        monkeypatch.setattr(
            plugins, "entry_points", lambda group: [point] if group == point.group else []
        )
        return Registry()

    code = install("1.0").own_code(model="theirs", dataset="digits", method="dense")
    assert code == {"model": "their-networks==1.0"}
    spec = replace(SPEC, model="theirs", sources=code)
    registry_of_record(install("1.0"), spec, copies)
    with pytest.raises(
        UsageError, match="is of their-networks==1.0, and here it is of their-networks==1.1"
    ):
        registry_of_record(install("1.1"), spec, copies)
    with pytest.raises(
        UsageError, match="here it is of no installed package; install their-networks==1.0"
    ):
        registry_of_record(Registry(), replace(spec, model="gone"), copies)


def test_shipped_plugins_have_no_code_in_a_specification(net: Path) -> None:
    named = {"method": "dropnet", "model": "torchvision:resnet18", "dataset": "imagefolder:photos"}
    assert Registry().own_code(**named) == {}
