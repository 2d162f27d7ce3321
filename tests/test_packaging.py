"""What is installed is what is in the tree, and only `bench` at top level; starting is light."""

import configparser
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLUGIN_FOLDERS = ("methods", "models", "datasets", "suites")


def modules_in_tree() -> set[str]:
    """Every module as it should be called inside a wheel."""
    own = (ROOT / "bench").glob("**/*.py")
    names = {str(f.relative_to(ROOT)) for f in own}
    for folder in PLUGIN_FOLDERS:
        names |= {f"bench/{folder}/{f.name}" for f in (ROOT / folder).glob("*.py")}
    return names


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return done


def beside_the_source(folder: str, names: list[str]) -> set[str]:
    """What lies in a checkout and is not source: at the top, users' results and data too."""
    patterns = (".*", "build", "*.egg-info", "__pycache__")
    at_top = ("results", "data") if Path(folder) == ROOT else ()
    return shutil.ignore_patterns(*patterns, *at_top)(folder, names)


@pytest.mark.slow
def test_a_wheel_holds_everything_and_runs_a_suite_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, symlinks=True, ignore=beside_the_source)
    # The build's requirements are installed already: no network, no isolation.
    build = ("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path))
    run(sys.executable, *build, str(source))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names if ".dist-info" not in n}
    assert tops == {"bench"}
    assert {n for n in names if n.endswith(".py")} == modules_in_tree()
    data = {f"bench/suites/{f.name}" for f in (ROOT / "suites").glob("*.toml")} | {"bench/py.typed"}
    assert data <= set(names)
    place = tmp_path / "elsewhere"
    venv.create(place, with_pip=False, system_site_packages=False)
    site = next(place.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # The libraries come from where the tests run; bench itself only from the wheel.
    outer = next(p for p in sys.path if p.endswith("site-packages"))
    code = f"import sys; sys.path.append({outer!r}); from bench.cli.main import main; main()"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    work = tmp_path / "work"
    work.mkdir()
    arguments = ("run", "smoke", "--models", "fc-20-20", "--jobs", "1", "--controls", "none")
    run(str(place / "bin" / "python"), "-c", code, *arguments, cwd=work, env=environment)
    assert len(list(work.glob("results/smoke/trials/*/result.json"))) >= 5
    where = f"import sys; sys.path.append({outer!r}); import bench; print(bench.__file__)"
    shown = run(str(place / "bin" / "python"), "-c", where, cwd=work, env=environment).stdout
    assert str(place) in shown


def test_every_package_is_listed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    folders = {f.parent for f in (ROOT / "bench").glob("**/__init__.py")}
    found = {str(f.relative_to(ROOT)).replace("/", ".") for f in folders}
    found |= {f"bench.{folder}" for folder in PLUGIN_FOLDERS}
    assert listed == found


def test_the_links_show_the_plugin_folders() -> None:
    for folder in PLUGIN_FOLDERS:
        assert (ROOT / "bench" / folder).is_symlink()
        assert str((ROOT / "bench" / folder).readlink()) == f"../{folder}"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["list", "methods"], ["list", "models"], ["list", "suites"],
     ["status", "{results}"], ["data", "--help"]],
)  # fmt: skip
def test_light_commands_import_neither_torch_nor_pandas(
    tmp_path: Path, arguments: list[str]
) -> None:
    results = tmp_path / "results"
    (results / "trials").mkdir(parents=True)
    spec = {"method": "dense", "method_version": 1, "model": "m", "dataset": "d", "seed": 0}
    plan = {"schema": 1, "trials": {"0123456789ab": {"depends_on": [], "spec": spec}}}
    (results / "plan.json").write_text(json.dumps(plan))
    filled = [a.format(results=results) for a in arguments]
    done = run(sys.executable, "-X", "importtime", "-m", "bench", *filled)
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "click" in imported
    assert not imported & {"torch", "pandas", "numpy", "matplotlib", "scipy", "torchvision"}


def test_completion_offers_names_and_keeps_what_was_typed() -> None:
    environment = {**os.environ, "_BENCH_COMPLETE": "bash_complete", "COMP_CWORD": "3",
                   "COMP_WORDS": "bench run --methods dense,dr"}  # fmt: skip
    code = "from bench.cli.main import cli; cli(prog_name='bench')"
    done = run(sys.executable, "-X", "importtime", "-c", code, env=environment)
    assert "dense,dropnet" in done.stdout
    assert " torch\n" not in done.stderr


def test_an_installed_package_named_datasets_is_not_hidden(tmp_path: Path) -> None:
    # The tests are run from the root, where the folder datasets/ lies.
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("origin = 'somebody else'")
    code = (
        f"import sys; sys.path.append({str(tmp_path)!r}); import datasets; print(datasets.origin)"
    )
    assert run(sys.executable, "-P", "-c", code, cwd=ROOT).stdout == "somebody else\n"
    assert not (ROOT / "tests" / "__init__.py").exists()
