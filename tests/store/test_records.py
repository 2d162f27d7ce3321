"""Records: what is read typed is what was written, to the byte; what is not sound is said in a sentence."""

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.store import schema
from bench.store.json_values import RecordError, RecordMissing, read_json
from bench.store.phase_records import CallPhase, Cost, Progress, TrainingPhase
from bench.store.records import (
    CostRecord,
    Metrics,
    Record,
    ResultContent,
    joined,
    latency_column,
    read_cost,
    read_environment,
    read_error,
    read_plan,
    read_result,
    read_sources,
    read_spec,
    seal,
    sealed,
)
from bench.store.results import Results, write_json
from bench.store.trial_identity import SCHEMA, TrialSpec, canonical

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "schema"
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

# -- any record ------------------------------------------------------------------------------------

wholes = st.integers(-(2**70), 2**70)
reals = st.floats(allow_nan=False, allow_infinity=False)
numbers = wholes | reals | st.sampled_from([0, 0.0, -0.0, 1, 1.0, 5e-324])
texts = st.text(max_size=8)
names = st.text(st.characters(codec="ascii", categories=["Ll"]), min_size=1, max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def objects(**fields: Any) -> st.SearchStrategy[Any]:
    """Objects with some fields that must be there, and those of a newer version."""
    optional = {k: v for k, v in fields.items() if k.startswith("may_")}
    required = {k: v for k, v in fields.items() if k not in optional}
    given_some = {k.removeprefix("may_"): v for k, v in optional.items()}
    newer = st.dictionaries(names.map("newer_".__add__), json_values, max_size=2)
    known = st.fixed_dictionaries(required, optional=given_some)
    return st.builds(lambda new, old: {**new, **old}, newer, known)


specs = st.builds(
    TrialSpec,
    method=texts, method_version=wholes, model=texts, dataset=texts, seed=wholes,
    target=st.none() | numbers, options=st.dictionaries(names, json_values, max_size=2),
    recipe=st.dictionaries(names, json_values, max_size=2), threads=wholes,
    rates_of=st.none() | texts,
)  # fmt: skip
spec_objects = specs.map(TrialSpec.as_json)
counts = st.dictionaries(names, objects(kept=wholes, of=wholes), max_size=2)
live = st.dictionaries(names, objects(live=wholes, of=wholes, may_place=wholes), max_size=2)
_QUALITY: dict[str, Any] = {"n_test": wholes, "collapsed": st.booleans(), "may_top1": numbers,
                            "may_test_loss": numbers, "may_word": texts}  # fmt: skip
_SIZES: dict[str, Any] = {
    "params_dense": wholes, "params_effective": wholes, "pruning_rate": numbers,
    "compression": numbers, "macs_dense": wholes, "macs_effective": wholes,
    "speedup_theoretical": numbers, "may_density": numbers, "may_params_kept": wholes,
    "may_units": counts, "may_live": live,
}  # fmt: skip
_FILES: dict[str, Any] = {"may_file_bytes": wholes, "may_file_compression": numbers}
metrics = objects(
    **_QUALITY, **_SIZES, **_FILES, epochs_total=wholes, images_seen=wholes,
    may_support_exact=st.booleans(), may_not_compacted=texts, may_compact_max_error=numbers,
)  # fmt: skip
curves = st.dictionaries(
    names,
    objects(
        may_marked=st.none() | numbers,
        rows=st.lists(st.dictionaries(names, json_values, max_size=2), max_size=2),
    ),
    max_size=2,
)
control = objects(may_start=texts, may_retrains=st.booleans(), may_lr_scale=numbers,
                  may_rounds=st.lists(st.dictionaries(names, wholes, max_size=2), max_size=2))  # fmt: skip
results = objects(
    schema=st.just(SCHEMA), spec=spec_objects, metrics=metrics, unreachable=st.booleans(),
    files=st.dictionaries(names, texts, max_size=2), may_task=texts, may_curves=curves,
    may_kept=st.dictionaries(names, objects(**_QUALITY, **_SIZES), max_size=2),
    may_control=control, may_phases=st.lists(texts, max_size=2),
)  # fmt: skip


def same_json(one: Any, other: Any) -> bool:
    """Equal in every value and in its type: 1 is not 1.0, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_json(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


@FEW
@given(content=results)
def test_a_result_that_is_read_and_written_again_is_the_same(tmp_path: Path, content: Any) -> None:
    content["id"] = TrialSpec.from_json(content["spec"]).id
    home = tmp_path / content["id"]
    home.mkdir(exist_ok=True)
    raw = sealed(content)
    write_json(home / "result.json", raw)
    written = (home / "result.json").read_bytes()
    record = read_result(home / "result.json")
    assert same_json(record.as_json(), json.loads(written))
    assert canonical(record.as_json()) == canonical(raw)
    assert sealed({k: v for k, v in record.as_json().items() if k != "sha256"}) == raw
    write_json(home / "again.json", record.as_json())
    assert (home / "again.json").read_bytes() == written
    assert seal(ResultContent.model_validate(content)).as_json() == raw


ids = st.from_regex("[0-9a-f]{12}", fullmatch=True)
OTHERS = {
    "cost.json": (
        objects(
            may_train_seconds=numbers, may_peak_memory_mb=st.none() | numbers,
            may_latency=objects(may_note=texts, may_latency_ms_p50=numbers),
        ), read_cost,
    ),
    "env.json": (
        objects(may_device=texts, may_threads=wholes, may_flags=st.lists(texts, max_size=2),
                may_versions=st.dictionaries(names, st.none() | texts, max_size=2)),
        read_environment,
    ),
    "error.json": (objects(error=texts, may_traceback=texts), read_error),
    "spec.json": (
        objects(spec=spec_objects, may_sources=st.dictionaries(names, texts, max_size=2)),
        read_spec,
    ),
    "plan.json": (
        objects(schema=st.just(SCHEMA), trials=st.dictionaries(
            ids, objects(spec=spec_objects, may_depends_on=st.lists(texts, max_size=2)),
            max_size=2)),
        read_plan,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_every_other_record_that_is_read_and_written_again_is_the_same(
    tmp_path: Path, name: str
) -> None:
    values, read = OTHERS[name]

    @FEW
    @given(raw=values)
    def holds(raw: Any) -> None:
        write_json(tmp_path / name, raw)
        assert same_json(read(tmp_path / name).as_json(), json.loads(json.dumps(raw)))

    holds()


def test_phases_and_progress_come_back_with_what_json_cannot_say_elsewhere() -> None:
    log = [{"epoch": 1, "loss": math.inf}, {"odd": math.nan}]
    cost = Cost()
    cost.images_seen += 5
    training = TrainingPhase.model_construct(
        cost=cost, log=log, callback={"pair": (1, 2.0)}, at_floor=True
    )
    call = CallPhase.model_construct(kind="json", value=[1, 1.0], log=[], cost=cost)
    tensors = CallPhase.model_construct(kind="tensors", log=[], cost=cost)
    progress = Progress(epoch=2)
    progress.cost.images_seen += 5
    names = {"epochs", "images_seen", "images_forward", "multiply_adds_outside", "optimizer_steps",
             "seconds"}  # fmt: skip
    for record in (training, call, tensors, progress):
        text = json.dumps(record.as_json())
        again = type(record).model_validate(json.loads(text))
        assert json.dumps(again.as_json()) == text
        assert again.cost.images_seen == 5
        assert set(json.loads(text)["cost"]) == names
    assert list(call.as_json()) == ["kind", "value", "log", "cost"]
    assert list(tensors.as_json()) == ["kind", "log", "cost"]


def test_columns_are_found_whether_fields_or_of_a_task() -> None:
    sizes = dict.fromkeys(("params_dense", "params_effective", "macs_dense", "macs_effective"), 6)
    rates = dict.fromkeys(("pruning_rate", "compression", "speedup_theoretical"), 0.5)
    rest = {"n_test": 10, "collapsed": False, "epochs_total": 1, "images_seen": 8, "top1": 97}
    found = Metrics.model_validate({**sizes, **rates, **rest, "nested": {"a": 1}})
    assert found.number("top1") == found.column("top1") == 97
    assert found.column("compression") == 0.5
    assert found.column("nested") is found.column("nmse") is None
    assert set(found.scalars()) == {*sizes, *rates, *rest}
    assert joined(Metrics, found) == found
    with pytest.raises(RecordError, match="the column nmse should be a number, but is None"):
        found.number("nmse")


@pytest.mark.parametrize(
    ("quantity", "batch_size", "sparse", "name"),
    [("latency_ms_p50", 1, False, "latency_ms_p50"),
     ("latency_dense_ms_p50", 32, False, "latency_dense_ms_p50_batch32"),
     ("speedup_measured", 1, True, "speedup_measured_sparse"),
     ("speedup_measured_low", 32, True, "speedup_measured_low_batch32_sparse")],
)  # fmt: skip
def test_columns_of_latency(quantity: str, batch_size: int, sparse: bool, name: str) -> None:
    assert latency_column(quantity, batch_size, sparse) == name


# -- what is not sound -----------------------------------------------------------------------------

SPEC = {"schema": 1, "method": "m", "method_version": 1, "model": "n", "dataset": "d", "seed": 0}
DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "spec should be an object of named values, but is an empty list"),
        (None, "spec should be an object of named values, but is null"),
        ({**SPEC, "method": 3}, "spec.method should be text, but is the number 3"),
        ({**SPEC, "seed": 1.0}, "spec.seed should be a whole number, but is the number 1.0"),
        ({**SPEC, "seed": True}, "spec.seed should be a whole number, but is true"),
        ({**SPEC, "target": "2"}, "spec.target should be a number, but is the text '2'"),
        (
            {**SPEC, "target": math.inf},
            "spec.target should be a number, but is a number beyond all",
        ),
        (
            {**SPEC, "options": {"float": {"a": math.nan}}},
            "spec.options.float.a should be a number",
        ),
        (
            {**SPEC, "options": [1]},
            "spec.options should be an object of named values, but is a list",
        ),
        ({**SPEC, "pace": 1}, "spec.pace is a field that this version does not know"),
        ({**SPEC, "coupling": "loose"}, "spec.coupling should be 'tied', 'branch', "),
        ({k: v for k, v in SPEC.items() if k != "seed"}, "spec.seed is missing"),
    ],
)
def test_a_specification_that_is_wrong_is_said_in_a_sentence(wrong: Any, said: str) -> None:
    with pytest.raises(RecordError) as caught:
        TrialSpec.from_json(wrong)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it should be JSON, but is damaged"),
        ("\ud800".encode("utf-8", "surrogatepass"), "it should be JSON, but is damaged"),
        (DEEP, "it should be JSON, but is nested too deeply to be read"),
        ('{"train_seconds": NaN}', "it should be JSON, but holds NaN, which is no number of JSON"),
        (
            '{"train_seconds": 1e999}',
            "train_seconds should be a number, but is a number beyond all",
        ),
        ("[]", "it should be an object of named values, but is an empty list"),
        ('{"work": {"epochs": "1"}}', "work.trainings is missing"),
        ('{"latency": {"setup": []}}', "latency.setup should be an object of named values"),
        ('{"latency": [1]}', "latency should be an object of named values, but is a list of 1"),
        ('{"newer": ' + "[" * 500 + "]" * 500 + "}", "newer.0.0.0.0.0.0.0… should be nested less"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_its_field(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    file = tmp_path / "cost.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(RecordError) as caught:
        read_cost(file)
    assert str(caught.value).startswith(f"{file}: {said}")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_told_from_one_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(RecordMissing, match="it is missing"):
        read_cost(tmp_path / "cost.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        read_json(tmp_path / "folder.json")
    for text in ("[]", "{}", '{"sources": []}'):
        (tmp_path / "spec.json").write_text(text)
        for read in (read_spec, read_sources):
            with pytest.raises(RecordError):
                read(tmp_path / "spec.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema": 0}, "schema should be 1, but is the number 0"),
        ({"schema": "1"}, "schema should be 1, but is the text '1'"),
        ({"metrics": []}, "metrics should be an object of named values"),
        ({"metrics": {}}, "is missing"),
        ({"spec": []}, "spec should be an object"),
        ({"spec": {**SPEC, "seed": 1}}, "its specification belongs to another id"),
    ],
)
def test_a_sealed_record_that_is_not_sound_is_damaged_and_stays(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    home = Results(tmp_path)
    home.create()
    spec = TrialSpec.from_json(SPEC)
    numbers = {name: 1 for name, f in Metrics.model_fields.items() if f.is_required()}
    content = {"schema": 1, "id": spec.id, "spec": SPEC, "unreachable": False, "files": {},
               "metrics": numbers | {"collapsed": False}}  # fmt: skip
    folder = home.trial(spec.id)
    folder.path.mkdir()
    write_json(folder.path / "result.json", sealed(content))
    assert folder.result().metrics.n_test == 1
    write_json(folder.path / "result.json", sealed(content | change))
    found = home.finished(spec.id)
    assert found.record is None
    assert found.is_damaged
    assert said in found.problem
    assert found.problem.count("\n") == 0
    assert folder.status() == "finished"
    assert "quarantine" in home.quarantine(folder)
    assert folder.status() == "waiting"
    assert list((tmp_path / "quarantine").iterdir())


def test_a_record_of_a_newer_version_is_not_damaged(tmp_path: Path) -> None:
    home = Results(tmp_path)
    folder = home.trial("0" * 12)
    folder.path.mkdir(parents=True)
    write_json(folder.path / "result.json", {"schema": 2, "sealed": "otherwise"})
    found = home.finished(folder.id)
    assert (found.record, found.is_damaged, found.is_unreadable) == (None, False, True)
    assert "a newer one reads it" in found.problem


# -- the models ------------------------------------------------------------------------------------


def models_under(kind: type[Record]) -> set[type[Record]]:
    return {kind}.union(*map(models_under, kind.__subclasses__()))


def test_every_model_and_every_value_in_it_is_described() -> None:
    for kind in models_under(Record) - {Record}:
        if kind.__name__.startswith("_"):
            continue
        assert kind.__doc__, kind
        for name, field in kind.model_fields.items():
            inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
            describes_itself = any(isinstance(a, type) and issubclass(a, Record) for a in inner)
            assert field.description or describes_itself, f"{kind.__name__}.{name}"


def test_no_field_that_is_left_out_gets_a_value_when_it_is_written() -> None:
    assert CostRecord().as_json() == {}


def test_the_documented_schemas_are_those_of_the_models() -> None:
    written = {f.name: f.read_text(encoding="utf-8") for f in DOCUMENTED.glob("*.json")}
    assert written == schema.files(), "python -m bench.store.schema docs/schema writes them anew"


@pytest.mark.parametrize("name", schema.RECORDS)
def test_a_schema_refers_to_what_it_holds_and_says_what_it_is(name: str) -> None:
    whole: Any = schema.schema_of(schema.RECORDS[name])
    assert whole["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    defined = whole.get("$defs", {})

    def check(part: Any) -> None:
        if isinstance(part, dict):
            reference = part.get("$ref")
            assert reference is None or reference.removeprefix("#/$defs/") in defined
            for inner in part.values():
                check(inner)
        elif isinstance(part, list):
            for inner in part:
                check(inner)

    check(whole)
    for part in (whole, *(d for n, d in defined.items() if n != "JsonValue")):
        assert part["title"] and part["description"]
        assert all("title" in p or "$ref" in p or "anyOf" in p for p in part["properties"].values())
