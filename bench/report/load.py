"""Read the finished trials of results folders into one tidy table: a row per trial."""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from bench.data.tasks import TASKS, unknown_task
from bench.errors import UsageError
from bench.report.attachments import Curve, ExampleFile, curves_of, example_file
from bench.report.columns import LATENCY, frame_of, kept_column
from bench.report.dataset_names import DatasetNames
from bench.store.json_values import Json, JsonObject, RecordError, Scalar
from bench.store.records import (
    CostRecord,
    LatencyRecord,
    LiveCount,
    ResultRecord,
    read_environment,
    read_spec,
)
from bench.store.results import Results, TrialFolder
from bench.store.trial_identity import TrialSpec, canonical

SMOKE = "SMOKE RUN: not a result"

MOST_LAYERS = 6  # of a network whose units a table has room for


@dataclass(frozen=True)
class Failure:
    """A trial that could not be finished, and why."""

    label: str
    error: str


@dataclass(frozen=True)
class Environment:
    """A machine and its software, and how many of the trials ran there."""

    facts: tuple[tuple[str, str], ...]
    trials: int


@dataclass(frozen=True)
class Loaded:
    """Everything a report is made from.

    Attributes:
        runs: one row per finished trial; columns in the order of `bench.report.columns`, then
            other metrics and `kept_*` by name.
        curves: of all trials that have any.
        examples: of the trials that kept some, by id.
        unfinished: number of planned trials that have neither finished nor failed; those whose records
            cannot be used are not among them.
        warnings: sentences about records that could not be used.
    """

    runs: pd.DataFrame
    curves: tuple[Curve, ...]
    examples: Mapping[str, ExampleFile]
    failures: tuple[Failure, ...]
    environments: tuple[Environment, ...]
    unfinished: int
    warnings: tuple[str, ...]


@dataclass
class _Reader:
    """Collects records over folders; a trial that lies in several is taken from the first."""

    records: dict[str, ResultRecord] = field(default_factory=dict)
    costs: dict[str, CostRecord] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    examples: dict[str, ExampleFile] = field(default_factory=dict)
    specs: dict[str, TrialSpec] = field(default_factory=dict)
    failures: dict[str, Failure] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)  # trials whose records cannot be used
    environments: Counter[tuple[tuple[str, str], ...]] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    several_versions: set[str] = field(default_factory=set)
    datasets: DatasetNames = field(default_factory=DatasetNames)
    several_codes: set[str] = field(default_factory=set)
    unsealed: int = 0  # trials whose shown costs have no seal

    def note_versions(self) -> None:
        """Find the methods whose results come from more than one version, or from a file that changed."""
        found = {(s.method, s.method_version) for s in self.specs.values()}
        counts = Counter(method for method, _ in found)
        self.several_versions = {method for method, n in counts.items() if n > 1}
        codes = {(s.method, s.sources.get("method")) for s in self.specs.values()}
        counts = Counter(method for method, _ in codes)
        self.several_codes = {method for method, n in counts.items() if n > 1}

    def label(self, spec: TrialSpec) -> str:
        """Return the name a method has in tables, with options and version where they tell it apart."""
        given = ",".join(f"{k}={v}" for k, v in sorted(spec.options.items()))
        label = f"{spec.method}[{given}]" if given else spec.method
        label += f" from {spec.weights}" if spec.weights else ""
        label = f"{label} v{spec.method_version}" if spec.method in self.several_versions else label
        return f"{label} ({_short_code(spec)})" if spec.method in self.several_codes else label

    def folder(self, results: Results, ids: Collection[str] | None) -> None:
        try:
            planned = results.planned()
        except UsageError as error:
            self.warnings.append(str(error))
            planned = {}
        wanted = planned if ids is None else {i: s for i, s in planned.items() if i in ids}
        self.specs |= {i: s for i, s in wanted.items() if i not in self.specs}
        for trial in results.trials():
            if ids is None or trial.id in ids:
                self._trial(results, trial)

    def _trial(self, results: Results, trial: TrialFolder) -> None:
        found = results.finished(trial.id)
        record = found.record
        if found.problem:
            self._leave_out(trial, found.problem)
        if record is None:
            if trial.status() == "failed":
                self.failures[trial.id] = _failure(trial)
            return
        if trial.id in self.records:
            if record.sha256 != self.records[trial.id].sha256:
                self.warnings.append(
                    f"trial {trial.id} has different results in two folders; the first is used"
                )
            return
        if record.task_name not in TASKS:
            self._leave_out(trial, f"trial {trial.id} has {unknown_task(record.task_name)}")
            return
        if wrong := TASKS[record.task_name].wrong_columns(record.metrics.scalars()):
            self._leave_out(trial, f"trial {trial.id} is not in the tables: {wrong}")
            return
        self.records[trial.id] = record
        self.datasets.note(record.spec, trial)
        self.specs[trial.id] = record.spec
        self._cost(trial)
        facts = _environment(trial)
        self.environments[facts] += 1
        self.devices[trial.id] = dict(facts).get("device", "")
        self.examples |= example_file(trial, record)

    def _leave_out(self, trial: TrialFolder, why: str) -> None:
        self.left_out.add(trial.id)
        self.warnings.append(why)

    def _cost(self, trial: TrialFolder) -> None:
        cost, wrong = trial.cost()
        self.costs[trial.id] = cost
        if wrong:
            self.warnings.append(wrong)
        self.unsealed += bool(cost.model_fields_set) and not cost.is_sealed

    def note_unsealed(self) -> None:
        """Say of how many trials an older version wrote the costs."""
        if self.unsealed:
            them = "1 trial has" if self.unsealed == 1 else f"{self.unsealed} trials have"
            self.warnings.append(
                f"{them} a cost.json without a seal, as older versions wrote it: a change of seconds, "
                "memory or latency would not be noticed"
            )


def load(results: Sequence[Results], ids: Collection[str] | None = None) -> Loaded:
    """Read every finished trial, or those of `ids`."""
    reader = _Reader()
    for folder in results:
        reader.folder(folder, ids)
    reader.note_versions()
    reader.note_unsealed()
    rows = [_row(reader, trial_id) for trial_id in sorted(reader.records)]
    done = reader.records.keys() | reader.failures.keys() | reader.left_out
    failures = [f for i, f in sorted(reader.failures.items()) if i not in reader.records]
    environments = [Environment(f, n) for f, n in reader.environments.most_common()]
    return Loaded(
        frame_of(rows),
        tuple(curve for i in sorted(reader.records) for curve in curves_of(reader.records[i])),
        reader.examples,
        tuple(failures),
        tuple(environments),
        len(reader.specs.keys() - done),
        tuple(reader.warnings),
    )


def _row(reader: _Reader, trial_id: str) -> dict[str, Scalar]:
    record, cost = reader.records[trial_id], reader.costs[trial_id]
    latency = cost.latency or LatencyRecord()
    kept = {
        kept_column(state, name): value
        for state, columns in record.kept.items()
        for name, value in columns.scalars().items()
    }
    return {
        **record.metrics.scalars(),
        "live_units": _live_units(record.metrics.live),
        **kept,
        "train_seconds": cost.train_seconds,
        "peak_memory_mb": cost.peak_memory_mb,
        **{name: latency.column(name) for name in LATENCY},
        **_identity(reader, trial_id),
        "task": record.task_name,
        "unreachable": record.unreachable,
    }


def _identity(reader: _Reader, trial_id: str) -> dict[str, Scalar]:
    spec = reader.specs[trial_id]
    followed = reader.specs.get(spec.depends_on[0]) if spec.depends_on else None
    role = "control at its rates" if spec.rates_of else "control at its cost"
    return {
        "id": trial_id,
        "group": _digest(_without_seed(reader, spec)),
        "setting": _digest(_setting(spec)),
        "label": _label(reader, spec, followed),
        "method": spec.method,
        "options": canonical(spec.options).decode(),
        "method_version": spec.method_version,
        "role": role if spec.depends_on else "method",
        "control_of": spec.depends_on[0] if spec.depends_on else None,
        "control_of_label": reader.label(followed) if followed else None,
        "control_of_target": followed.target if followed else None,
        "model": spec.model,
        "dataset": reader.datasets.shown(spec),
        "data": spec.data,
        "target": spec.target,
        "seed": spec.seed,
        "budget": spec.budget,
        "protocol": spec.protocol,
        "protocol_version": spec.protocol_version,
        "recipe": canonical(spec.recipe).decode(),
        "coupling": spec.coupling,
        "weights": spec.weights,
        "threads": spec.threads,
        "code": canonical(_code_of_setting(spec)).decode() if _code_of_setting(spec) else "",
        "device": reader.devices[trial_id],
        "note": SMOKE if spec.budget == "smoke" else "",
    }


def _label(reader: _Reader, spec: TrialSpec, followed: TrialSpec | None) -> str:
    own = reader.label(spec)
    if not spec.depends_on:
        return own
    other = reader.label(followed) if followed else f"trial {spec.depends_on[0]}"
    return f"{own} (of {other})" if spec.rates_of else f"{own} (at the cost of {other})"


def _without_seed(reader: _Reader, spec: TrialSpec) -> JsonObject:
    """Return what the trials of one group share: the specification, and that of the trial they follow."""
    shared = {k: v for k, v in spec.as_json().items() if k != "seed"}
    for role, trial_id in (("rates_of", spec.rates_of), ("budget_of", spec.budget_of)):
        followed = reader.specs.get(trial_id or "")
        if followed is not None:
            shared[role] = _without_seed(reader, followed)
    return shared


def _setting(spec: TrialSpec) -> JsonObject:
    """Return what two trials must share to be compared."""
    names = ("model", "dataset", "budget", "protocol", "protocol_version", "recipe", "threads",
             "coupling")  # fmt: skip
    shared: JsonObject = {name: getattr(spec, name) for name in names}
    if spec.data is not None:
        shared["data"] = spec.data
    code = _code_of_setting(spec)
    return shared | {"sources": code} if code else shared


def _code_of_setting(spec: TrialSpec) -> JsonObject:
    """Return the code of the network and data set, where it is part of the specification."""
    return {role: code for role, code in spec.sources.items() if role != "method"}


def _short_code(spec: TrialSpec) -> str:
    """Return what tells a method's code from others in a label."""
    return f"code {str(spec.sources.get('method', 'not kept'))[:8]}"


def _digest(value: Mapping[str, Json]) -> str:
    return hashlib.sha256(canonical(dict(value))).hexdigest()[:12]


def _live_units(live: Mapping[str, LiveCount]) -> str:
    """Return the units left per layer, inputs first, as in 542-82-61-10; empty for deep networks."""
    if not 0 < len(live) <= MOST_LAYERS:
        return ""
    # Files hold the names in alphabetical order; `place` is the layer's own.
    ordered = sorted(live, key=lambda name: (name != "input", live[name].place))
    return "-".join(str(live[name].live) for name in ordered)


def _failure(trial: TrialFolder) -> Failure:
    try:
        label = read_spec(trial.path / "spec.json").spec.label
    except RecordError:
        label = f"trial {trial.id}"
    return Failure(label, trial.error().error)


def _environment(trial: TrialFolder) -> tuple[tuple[str, str], ...]:
    """Return what decides speed and bits, in words; empty where it was not kept."""
    try:
        found = read_environment(trial.path / "env.json")
    except RecordError:
        return ()
    facts = {name: getattr(found, name) for name in _SHOWN} | (found.versions or {})
    return tuple((name, str(value)) for name, value in facts.items() if value is not None)


_SHOWN: Iterable[str] = (
    "device", "device_name", "cpu_capability", "threads", "matmul", "python", "system",
    "git_commit",
)  # fmt: skip
