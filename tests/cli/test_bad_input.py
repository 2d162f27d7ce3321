"""Bad input: one clear sentence, exit code 2, nothing half-written."""

import json
import struct
from pathlib import Path

import pytest
import torch

from bench.store.records import Metrics, sealed
from bench.store.results import write_json
from bench.store.trial_identity import TrialSpec

HERE = Path(__file__).resolve().parent
NETS = HERE.parent / "small_net.py"


def is_one_sentence(err: str) -> bool:
    """The last lines say what is wrong; no traceback."""
    return "Traceback" not in err and "Error" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "dropnut"], "Did you mean 'dropnet'"),
        (["--methods", "zzz*"], "Unknown method 'zzz*'"),
        (["--methods", "dense", "--models", "lenet5"], "Did you mean 'lenet-5'"),
        (["--methods", "dense", "--datasets", "minst"], "Did you mean 'mnist'"),
        (["smokey"], "Did you mean 'smoke'"),
        (["none.toml"], "none.toml cannot be read"),
        (["--methods", "dropnet", "--set", "dropnet.dorp=0.1"], "Did you mean 'drop'"),
        (["--methods", "dropnet", "--set", "dropnot.drop=0.1"], "Did you mean 'dropnet'"),
        (["--methods", "dropnet", "--set", "dropnet.drop=x"], "dropnet.drop"),
        (["--methods", "dropnet", "--set", "dropnet.drop=2"], "share between 0 and 1"),
        (["--methods", "dropnet", "--set", "dropnet.scope=all"], "'layer' or 'global'"),
        (["--methods", "dropnet", "--set", "recipe.lr=-1"], "recipe.lr"),
        (["--methods", "dropnet", "--set", "recipe.lr=.1,.2"], "one value at a time"),
        (["--methods", "edropout", "--set", "edropout.population=3"], "three other parents"),
        (["--methods", "edropout", "--set", "edropout.freeze=0"], "above 0 and up to 1"),
        (["--methods", "magnitude", "--set", "magnitude.step=1"], "more than 1"),
        (["--methods", "scratch"], "only follows other trials"),
        (["--methods", "scr*"], "no trial at all"),
        (["--methods", ","], "No methods are named"),
        (["--methods", "dense", "--datasets", ","], "No datasets are named"),
        (["--methods", "dropnet", "--set", "dropnet.min_keep=inf"], "finite number"),
        (["--methods", "dropnet", "--set", "dropnet.min_keep=1"], "from 0 to below 1"),
        (["--methods", "magnitude", "--set", "magnitude.lr_scale=-1"], "factor above 0"),
        (["--methods", "dense", "--set", "recipe.momentum=-1"], "must be 0 or more"),
        (["--methods", "dense", "--set", "recipe.epochs=true"], "not a switch"),
        (["--methods", "dense", "--set", "recipe.full_epochs=7"], "set recipe.epochs"),
        (["--methods", "dense", "--targets", "1e-12"], "removes nothing"),
        (["--methods", "dense", "--seeds", "0-10000000"], "at most 100000 at once"),
        (["--methods", "dense", "--seeds", "99999999999999999999"], "seeds go up to"),
        (["--methods", "dense", "--targets", "1"], "cannot be a target"),
        (["--methods", "dense", "--targets", "-3"], "cannot be a target"),
        (["--methods", "dense", "--targets", "a"], "not a number"),
        (["--methods", "dense", "--seeds", "1-"], "is not a seed"),
        (["--methods", "dense", "--jobs", "none"], "--jobs 'none'"),
        (["--methods", "dense", "--device", "tpu"], "--device"),
        (["--methods", "dense", "--budget", "huge"], "'smoke', 'quick', 'full'"),
        (["--methods", "dense", "--method", "x"], "--methods"),
        ([], "Say which methods to run"),
        (["--methods", "dense", "--models", "nowhere.py:build"], "no file nowhere.py"),
        (["--methods", "dense", "--models", f"{NETS}:bild"], "Did you mean 'build'"),
        (["--methods", "dense", "--models", f"{NETS}:broken"], "cannot be built for mnist-5k"),
        (["--methods", "dropnet", "--models", f"{NETS}:linear"], "it drops units"),
        (["--methods", "edropout", "--models", f"{NETS}:bent"], "(Sigmoid)"),
        (["--methods", "dense", "--datasets", "fashion"], "bench data fetch fashion"),
        (["--methods", "dense", "--plugin", "nowhere.py"], "there is no such file"),
    ],
)
def test_a_run_that_cannot_start_says_why(bench, tmp_path: Path, arguments, message) -> None:
    shell = bench("run", *arguments, "--out", "results/mine")
    assert shell.code == 2
    assert message in shell.err
    assert is_one_sentence(shell.err)
    assert not list(tmp_path.glob("results/mine/trials/*"))
    assert not (tmp_path / "results/mine/plan.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_named(bench) -> None:
    shell = bench("run", "--methods", "dense", "--device", "cuda")
    assert shell.code == 2
    assert "--device cpu" in shell.err


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import nothing_of_the_sort\n\nclass M:\n    def prune(self, trial): ...\n",
            "nothing_of_the_sort",
        ),
        ("def (", "is not Python"),
        ("x = 1\n", "defines no method"),
        ("class M:\n    def prune(self, trial): ...\n", "must define one method"),
        ("class D:\n    name = 'mine'\n", "is not a Dataset"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(bench, tmp_path: Path, source, message) -> None:
    (tmp_path / "plug.py").write_text(source)
    kind = (
        ("--methods", "dense", "--datasets", "mine") if "name" in source else ("--methods", "plug")
    )
    shell = bench("run", *kind, "--plugin", "plug.py")
    assert shell.code == 2
    assert message in shell.err
    assert "plug.py" in shell.err
    assert is_one_sentence(shell.err)


def test_a_plugin_cannot_take_a_shipped_name(bench, tmp_path: Path) -> None:
    (tmp_path / "dropnet.py").write_text("class M:\n    def prune(self, trial): ...\n")
    shell = bench("run", "--methods", "dropnet", "--plugin", "dropnet.py")
    assert shell.code == 2
    assert "both define method 'dropnet'" in shell.err


def test_a_truncated_data_file_is_named(bench, tmp_path: Path) -> None:
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(
        struct.pack(">IIII", 0x803, 60000, 28, 28) + b"x" * 999
    )
    for arguments in (
        ["run", "--methods", "dense", "--datasets", "fashion"],
        ["data", "verify", "fashion"],
    ):
        shell = bench(*arguments)
        assert shell.code == 2
        assert "train-images-idx3-ubyte is damaged" in shell.out + shell.err
    assert not (tmp_path / "results" / "default" / "plan.json").exists()


def test_an_unwritable_output_folder_is_named(bench, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    shell = bench("run", "--methods", "dense", "--out", "file/results")
    assert shell.code == 2
    assert "cannot be written" in shell.err


def test_reports_and_status_of_nothing_say_what_to_do(bench, tmp_path: Path) -> None:
    for verb in ("report", "status", "clean"):
        shell = bench(verb)
        assert shell.code == 2
        assert "bench run" in shell.err
        assert bench(verb, str(tmp_path)).code == 2
    for folder in (tmp_path, tmp_path / "missing"):
        shell = bench("measure", str(folder))
        assert shell.code == 2
        assert "There are no trials in" in shell.err
        assert not (folder / ".measure.lock").exists()
    assert "Did you mean" in bench("show", "dropnot").err
    unknown = bench("show", "abcdef").err
    assert "there are no trials" in unknown and "--results" in unknown
    assert bench("run", "--methods", "dense", "--set", "recipe.epochs=0").err == (
        "Error: recipe.epochs is 0, but must be above 0\n"
    )
    assert "Did you mean 'png'" in bench("report", "--format", "pgn").err
    assert bench("frobnicate").code == 2


def test_an_unreadable_plan_is_named(bench, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "default"
    (folder / "trials").mkdir(parents=True)
    (folder / "plan.json").write_text("{")
    shell = bench("run", "--methods", "dense", "--models", "fc-20-20", "--budget", "smoke")
    assert shell.code == 2
    assert "plan.json is damaged" in shell.err


SPEC = {"method": "dense", "method_version": 1, "model": "m", "dataset": "d", "seed": 0}


def plan_of(**fields: object) -> str:
    return json.dumps({"schema": 1, "trials": {"0" * 12: {"spec": SPEC | fields}}})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "it should be an object of named values, but is an empty list"),
        ("{}", "trials is missing"),
        ('{"trials": []}', "trials should be an object of named values"),
        ('{"trials": {"a": []}}', "trials.a should be an object of named values"),
        ('{"trials": {"a": {"spec": []}}}', "trials.a.spec should be an object of named values"),
        ("[" * 200_000 + "]" * 200_000, "nested too deeply"),
        (plan_of(target="two"), "spec.target should be a number, but is the text 'two'"),
        (plan_of(pace=1), "spec.pace is a field that this version does not know"),
        (plan_of(target=float("nan")), "holds NaN, which is no number of JSON"),
        (
            plan_of().replace('"seed": 0', '"seed": 0, "target": 1e999'),
            "a number beyond all floats",
        ),
    ],
)
def test_a_plan_with_a_wrong_field_is_said_in_a_sentence(bench, tmp_path: Path, text, said) -> None:
    (tmp_path / "plan.json").write_text(text)
    shell = bench("status", str(tmp_path))
    assert shell.code == 2
    assert said in shell.err
    assert "plan.json is damaged" in shell.err
    assert is_one_sentence(shell.err)
    assert len(shell.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["cost.json", "env.json", "spec.json", "error.json"])
@pytest.mark.parametrize("text", ["[]", '"x"', "{", "[" * 200_000 + "]" * 200_000])
def test_files_beside_a_record_that_are_wrong_stop_no_command(
    bench, tmp_path: Path, name: str, text: str
) -> None:
    out = tmp_path / "results" / "default"
    spec = TrialSpec.from_json(SPEC | {"model": "fc-20-20", "dataset": "digits"})
    home = out / "trials" / spec.id
    home.mkdir(parents=True)
    write_json(out / "plan.json", {"schema": 1, "trials": {spec.id: {"spec": spec.as_json()}}})
    if name != "error.json":
        write_json(home / "result.json", sealed(finished(spec)))
    (home / name).write_text(text)
    for arguments in (["status"], ["report", "--format", "csv,md"], ["show", spec.id],
                      ["measure", "--effort", "quick"]):  # fmt: skip
        shell = bench(*arguments)
        assert shell.code in (0, 2), shell.err
        assert "Traceback" not in shell.err
    assert (home / name).read_text() == text


def finished(spec: TrialSpec) -> dict[str, object]:
    numbers = {name: 1 for name, f in Metrics.model_fields.items() if f.is_required()}
    return {"schema": 1, "id": spec.id, "spec": spec.as_json(), "unreachable": False, "files": {},
            "metrics": numbers | {"collapsed": False, "top1": 97.5, "top5": 99.0}}  # fmt: skip


def test_a_suite_with_a_block_that_is_no_request_is_named(bench, tmp_path: Path) -> None:
    for text in (
        'methods = "dense"\n[[run]]\noptions = 5\n',
        'methods = "dropnet"\n[options.dropnet]\ndrop = []\n',
    ):
        (tmp_path / "odd.toml").write_text(text)
        shell = bench("run", "odd.toml")
        assert shell.code == 2
        assert is_one_sentence(shell.err)


@pytest.mark.parametrize("body", ["raise NameError('oops')", "return None", "return {}['x']"])
def test_a_network_that_cannot_be_built_is_named(bench, tmp_path: Path, body: str) -> None:
    (tmp_path / "net.py").write_text(f"def build(num_classes, in_shape):\n    {body}\n")
    shell = bench("run", "--methods", "dense", "--models", "net.py:build")
    assert shell.code == 2
    assert "net.py:build cannot be built for mnist-5k" in shell.err


def test_a_data_set_that_gives_bad_labels_is_named(bench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom bench.api import Dataset, Images, Split\n\nclass Mine(Dataset):\n"
        "    name = 'mine'\n    shape = (1, 8, 8)\n    classes = 2\n    mean = (0.5,)\n    std = (0.5,)\n"
        "    def load(self, root):\n"
        "        part = Images(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4))\n"
        "        return Split(part, part, part)\n"
    )
    arguments = (
        "--methods",
        "dense",
        "--models",
        "fc-20-20",
        "--datasets",
        "mine",
        "--plugin",
        "mine.py",
    )
    shell = bench("run", *arguments)
    assert shell.code == 2
    assert "a label lies outside 0-1" in shell.err
