"""The records of a results folder: the fields of each file, and one function that reads it.

A model checks types and changes no value: a whole number stays one, and what was not written is not
added. Seals and ids are therefore the same before and after. Fields that older versions did not write
are optional; fields of newer ones are kept as they are.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from bench.store.json_values import (
    AnyJson,
    Json,
    JsonObject,
    RecordError,
    RecordUnreadable,
    Scalar,
    in_words,
    read_json,
    what_is_wrong,
)
from bench.store.trial_identity import SCHEMA, SpecFields, TrialSpec, canonical, is_trial_id

OLDEST_TASK = "classification"  # of records from before there were others
Number: TypeAlias = int | float  # in this order: each stays what it is


class Record(BaseModel):
    """Values of one JSON object, checked and unchanged."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, AnyJson] = Field(init=False)  # fields of a newer version

    def as_json(self) -> JsonObject:
        """Return the object as it was read or made: its own names, nothing added."""
        return self.model_dump(by_alias=True, exclude_unset=True, warnings=False)

    @classmethod
    def checked(cls, values: Json, path: Path) -> Self:
        """Return the record that an object holds.

        Raises:
            RecordError: a field is missing or of another type.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RecordError(what_is_wrong(error, values), path) from error


class _SpecField:
    """A specification as it stands in a record: the object that its id is made of."""

    @staticmethod
    def __get_pydantic_core_schema__(source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, TrialSpec) else TrialSpec.from_json(given),
            serialization=core_schema.plain_serializer_function_ser_schema(TrialSpec.as_json),
        )

    @staticmethod
    def __get_pydantic_json_schema__(
        schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return handler(SpecFields.__pydantic_core_schema__)


Spec: TypeAlias = Annotated[TrialSpec, _SpecField]


class Columns(Record):
    """Named values of a network: those that every task has as fields, others by name."""

    def column(self, name: str) -> Scalar:
        """Return the value of a column, a field or one of its task's own; None where there is none."""
        value = getattr(self, name) if name in self.model_fields_set else None
        return value if isinstance(value, bool | int | float | str) else None

    def number(self, name: str) -> float:
        """Return a column that holds a number.

        Raises:
            RecordError: it is missing, or no number.
        """
        value = self.column(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RecordError(f"the column {name} should be a number, but is {value!r}")
        return value

    def scalars(self) -> dict[str, Scalar]:
        """Return every column that holds a single value, by name."""
        values = ((name, self.column(name)) for name in self.model_fields_set)
        return {name: value for name, value in values if value is not None}


C = TypeVar("C", bound=Columns)


def joined(kind: type[C], *parts: Columns) -> C:
    """Return the columns of several measurements as one set; a part that was not measured adds none."""
    values = {name: value for part in parts for name, value in part.as_json().items()}
    return kind.model_validate(values)


# -- result.json: what is the same on a rerun ------------------------------------------------------


class UnitCount(Record):
    """Units of one site under masks."""

    kept: int = Field(description="units that the masks keep")
    of: int = Field(description="units there are")


class LiveCount(Record):
    """Units of one layer that are left once dead ones are propagated."""

    live: int = Field(description="units with kept weights that enter and leave them")
    of: int = Field(description="units there are")
    place: int = Field(
        default=0, description="the layer's place in the network, inputs first; JSON sorts names"
    )


class TensorBytes(Record):
    """The cost of one tensor in a Deep Compression file, in bytes, by purpose."""

    name: str = Field(description="of the tensor; empty for what belongs to the whole file")
    header: int = Field(description="bytes of name, shape and coding; of the file: of its facts")
    positions: int = Field(description="bytes that say where kept weights are, fillers included")
    values: int = Field(description="bytes that say which value each kept weight has")
    codebook: int = Field(description="bytes of the values")
    tables: int = Field(description="bytes of what decodes Huffman codes")
    raw: int = Field(description="bytes of a tensor that is stored as it is")
    checksum: int = Field(description="bytes of the file's checksum")


class QualityColumns(Columns):
    """Quality on test and validation images; a task's own columns stand beside these, by name."""

    n_test: int = Field(description="test images, or samples")
    collapsed: bool = Field(description="no better than an output that is the same for every image")
    test_loss: Number | None = Field(
        default=None, description="mean loss of the task on test images: nats, or squared error"
    )
    validation_loss: Number | None = Field(
        default=None, description="mean loss of the task on validation images"
    )


class SizeColumns(Columns):
    """Sizes of a network under masks, from closed forms; multiply-adds are for one image."""

    params_dense: int = Field(description="parameters of the unpruned network")
    params_masked: int | None = Field(
        default=None, description="weights that masks keep, and every parameter without a mask"
    )
    params_kept: int | None = Field(
        default=None, description="parameters left once dropped units are cut out"
    )
    params_effective: int = Field(description="parameters left once dead units are cut out too")
    density: Number | None = Field(
        default=None, description="share of the weights of layers that masks keep, 0-1"
    )
    pruning_rate: Number = Field(description="share of all parameters removed, 0-1")
    pruning_rate_prunable: Number | None = Field(
        default=None, description="share of the weights of layers removed, 0-1"
    )
    compression: Number = Field(description="params_dense / params_effective")
    units_removed: int | None = Field(default=None, description="units that masks drop")
    units_kept_share: Number | None = Field(
        default=None, description="share of units that masks keep, 0-1"
    )
    kept_output_side: Number | None = Field(
        default=None,
        description="EDropout's R: filters with all their inputs, linear layers by their inputs",
    )
    macs_dense: int = Field(description="multiply-adds of the unpruned network")
    macs_effective: int = Field(description="multiply-adds left once dead units are propagated")
    speedup_theoretical: Number = Field(description="macs_dense / macs_effective")
    units: dict[str, UnitCount] = Field(default_factory=dict, description="by site")
    live: dict[str, LiveCount] = Field(
        default_factory=dict, description="by layer, and `input` where it is known"
    )


class StateColumns(QualityColumns, SizeColumns):
    """Everything that is measured of a state of the network that a method kept beside the final one."""


class SupportColumns(Columns):
    """Inputs that a network still reads against those that matter, where a data set knows them."""

    support_true: int | None = Field(default=None, description="inputs that matter")
    support_read: int | None = Field(default=None, description="inputs that the network reads")
    support_missed: int | None = Field(
        default=None, description="those that matter and are not read"
    )
    support_exact: bool | None = Field(default=None, description="just those that matter are read")


class RemovalColumns(Columns):
    """The network that is left after removal, against the masked one."""

    params_compact: int | None = Field(default=None, description="parameters of the cut network")
    macs_compact: int | None = Field(default=None, description="multiply-adds of the cut network")
    compact_max_error: Number | None = Field(
        default=None, description="largest difference of an output, cut against masked network"
    )
    not_compacted: str = Field(default="", description="why no unit was cut out, where none was")


class FileColumns(Columns):
    """Deep Compression files of the network, with Huffman codes and with codes of fixed width."""

    file_bytes_dense: int | None = Field(
        default=None, description="bytes of all tensors in float32"
    )
    file_bytes: int | None = Field(default=None, description="bytes with Huffman codes")
    file_bytes_fixed: int | None = Field(default=None, description="bytes with fixed widths")
    file_compression: Number | None = Field(
        default=None, description="file_bytes_dense / file_bytes"
    )
    file_compression_fixed: Number | None = Field(
        default=None, description="file_bytes_dense / file_bytes_fixed"
    )
    file_layers: list[TensorBytes] = Field(default_factory=list, description="of `file_bytes`")
    file_layers_fixed: list[TensorBytes] = Field(
        default_factory=list, description="of `file_bytes_fixed`"
    )


class CostColumns(Columns):
    """The cost of all phases that a trial needed, whoever computed them; the same on every machine."""

    epochs_total: int = Field(description="epochs of all its trainings")
    images_seen: int = Field(description="images trained on")
    multiply_adds_outside: int | None = Field(
        default=None,
        description="multiply-adds of every pass outside trainings, forward and backward",
    )
    images_forward: int | None = Field(
        default=None, description="images of every forward pass, those trained on included"
    )
    optimizer_steps: int | None = Field(default=None, description="steps of all its trainings")
    trainings: int | None = Field(default=None, description="trainings of at least one epoch")


class Metrics(StateColumns, SupportColumns, RemovalColumns, FileColumns, CostColumns):
    """All columns of a finished trial; those of its task alone are found by `column` and `number`."""


class CurveRecord(Record):
    """A curve that a method measured while it searched for one of its numbers."""

    marked: AnyJson = Field(default=None, description="the x that the method went on with")
    rows: list[dict[str, AnyJson]] = Field(
        description="points with the same keys; the first key is the x-axis and the curve's name"
    )


class ControlRecord(Record):
    """The facts that controls of this trial follow."""

    start: str | None = Field(default=None, description="init or pretrained: where pruning began")
    rounds: list[dict[str, int]] | None = Field(
        default=None, description="counts kept, by site or parameter, after each pruning"
    )
    retrains: bool | None = Field(
        default=None, description="false where pruning left the weights as they were"
    )
    lr_scale: Number | None = Field(
        default=None, description="factor on the learning rate of the retraining"
    )


class ResultContent(Record):
    """The content of result.json: all of a finished trial that is the same on a rerun."""

    schema_version: int = Field(alias="schema", description="version of the layout of records")
    id: str = Field(description="12 hex digits: the hash of the specification")
    spec: Spec = Field(description="what the trial is")
    metrics: Metrics
    task: str | None = Field(
        default=None, description="of the data set; records without it are classifications"
    )
    curves: dict[str, CurveRecord] | None = Field(default=None, description="by name of the x-axis")
    kept: dict[str, StateColumns] = Field(
        default_factory=dict, description="states measured beside the final one, by name"
    )
    unreachable: bool = Field(description="the floor was met before the target")
    control: ControlRecord = ControlRecord()
    phases: list[str] = Field(default_factory=list, description="keys of the phases it needed")
    files: dict[str, str] = Field(description="SHA-256 of the trial's files, by name")

    @property
    def task_name(self) -> str:
        """The task; classification for records from before there were others."""
        return OLDEST_TASK if self.task is None else self.task


class HandoverRecord(Record):
    """handover.json: all that measuring cannot find in the files of a network; gone with the record."""

    control: ControlRecord
    curves: dict[str, CurveRecord] = Field(description="by name of the x-axis")
    kept: list[str] = Field(description="states to be measured, in the order of their files")
    unreachable: bool = Field(description="the floor was met before the target")
    index_bits: int | None = Field(
        default=None, description="of the file that the network is stored in; null: in none"
    )
    cost: CostColumns
    phases: list[str] = Field(description="keys of the phases that the trial needed")
    validation: str = Field(description="SHA-256 of the network's outputs on validation images")
    code: dict[str, str] = Field(description="hashes of the code that the trial ran, by kind")


class ResultRecord(ResultContent):
    """result.json: a finished trial, sealed."""

    sha256: str = Field(description="hash of the canonical JSON of everything else")


def sealed(content: Mapping[str, Json]) -> JsonObject:
    """Return a record with the hash of its own content, by which tampering shows."""
    return {**content, "sha256": hashlib.sha256(canonical(dict(content))).hexdigest()}


def seal(content: ResultContent) -> ResultRecord:
    """Return the record of a finished trial as it is written."""
    # By way of its JSON: a method's own values, such as tuples in a curve, become what will be read.
    return ResultRecord.model_validate(json.loads(canonical(sealed(content.as_json()))))


def read_result(path: Path) -> ResultRecord:
    """Read the record of a finished trial, sealed and of this schema.

    The seal and the id are those of the file as it stands, before any type is looked at.

    Raises:
        RecordUnreadable: the system does not let it be read, or a newer version wrote it.
        RecordError: it is damaged, was changed by hand or belongs to another id.
    """
    raw = read_json(path)
    _refuse_newer(raw, path)
    if not isinstance(raw, dict) or "sha256" not in raw:
        raise RecordError("it is not a trial's record", path)
    _check_seal(raw, path)
    if raw.get("schema") != SCHEMA:
        found = in_words(raw.get("schema"))
        raise RecordError(f"schema should be {SCHEMA}, but is {found}", path)
    record = ResultRecord.checked(raw, path)
    if record.spec.id != path.parent.name:
        raise RecordError("its specification belongs to another id", path)
    return record


def _refuse_newer(raw: Json, path: Path) -> None:
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordUnreadable(
            f"its schema is {schema}, and this version of bench reads {SCHEMA}; a newer one reads it",
            path,
        )


def _check_seal(raw: JsonObject, path: Path) -> None:
    content = {name: value for name, value in raw.items() if name != "sha256"}
    try:
        found = hashlib.sha256(canonical(content)).hexdigest()
    except (ValueError, RecursionError) as error:
        raise RecordError(f"its seal cannot be computed ({error})", path) from error
    if found != raw["sha256"]:
        raise RecordError("its content does not match its checksum", path)


# -- cost.json: what varies between machines -------------------------------------------------------


class WorkRecord(Record):
    """The work of the process that finished a trial, as opposed to the cost of the trial."""

    trainings: int = Field(description="trainings that it ran")
    trainings_reused: int = Field(description="trainings that it found done")
    epochs: int = Field(description="epochs that it ran")
    images_seen: int = Field(description="images that it trained on")
    phases_computed: int = Field(description="phases that it computed, trainings included")
    phases_reused: int = Field(description="phases that it found done")
    waited_seconds: Number = Field(description="seconds that it waited for others to compute them")


class LatencySetup(Record):
    """The circumstances of a measurement of latency: times of another setup are other times."""

    effort: str = Field(description="quick or full")
    device: str = Field(description="cpu or cuda")
    threads: int = Field(description="CPU threads")
    dtype: str = Field(description="of weights and images")
    batch_sizes: list[int] = Field(description="images of a batch")
    torch: str = Field(description="version")


class LatencyRecord(Columns):
    """Times of a trial's network, dense and cut in turn; columns are named by `latency_column`."""

    setup: LatencySetup | None = None
    note: str | None = Field(
        default=None, description="where the times do not show what was pruned"
    )

    def with_times(self, times: Mapping[str, float]) -> "LatencyRecord":
        """Return the record with more columns, named by `latency_column`."""
        return LatencyRecord.model_validate({**self.as_json(), **times})


class CostRecord(Record):
    """cost.json: the costs of a trial on the machine that it ran on."""

    train_seconds: Number | None = Field(
        default=None, description="seconds of all phases it needed"
    )
    peak_memory_mb: Number | None = Field(
        default=None, description="MiB at most, of the GPU or else of the process"
    )
    trial_seconds: Number | None = Field(
        default=None, description="seconds from its start to its record, in one process"
    )
    work: WorkRecord | None = None
    latency: LatencyRecord | None = None
    id: str | None = Field(default=None, description="of the trial; older versions wrote none")
    sha256: str | None = Field(
        default=None,
        description="hash of the canonical JSON of everything else; older versions wrote none",
    )

    @property
    def is_sealed(self) -> bool:
        """True where a change would have been noticed; older versions wrote no seal."""
        return self.sha256 is not None


def seal_cost(cost: CostRecord, trial_id: str) -> CostRecord:
    """Return the costs of a trial as they are written; a seal that they had is replaced."""
    content = {**cost.as_json(), "id": trial_id}
    content.pop("sha256", None)
    return CostRecord.model_validate(sealed(content))


def latency_column(quantity: str, batch_size: int, sparse: bool = False) -> str:
    """Return the name of a column of latency.

    Args:
        quantity: `latency_ms_p50`, `latency_ms_p90`, `latency_dense_ms_p50` (milliseconds a batch),
            `speedup_measured`, `speedup_measured_low` or `speedup_measured_high`.
        batch_size: 1 is not part of the name.
        sparse: of linear layers on sparse kernels.
    """
    batch = "" if batch_size == 1 else f"_batch{batch_size}"
    return f"{quantity}{batch}{'_sparse' if sparse else ''}"


# -- the other files of a trial, and the plan ------------------------------------------------------


class ResolvedRecord(Record):
    """A trial's options and recipe with every default written out."""

    options: dict[str, AnyJson] = Field(default_factory=dict, description="of the method, by name")
    recipe: dict[str, AnyJson] = Field(default_factory=dict, description="of one training, by name")


class DataPlace(Record):
    """The place of data that a specification names by their digest alone."""

    path: str = Field(description="absolute, of the image folder or the folder of downloaded data")
    classes: list[str] = Field(
        default_factory=list, description="of an image folder: its classes, in the order of labels"
    )


class SpecRecord(Record):
    """spec.json: what a trial is, with defaults written out, and the code it was run with."""

    spec: Spec = Field(description="what the trial is")
    resolved: ResolvedRecord = ResolvedRecord()
    sources: dict[str, str] | None = Field(
        default=None, description="hash of the code of its method, model and dataset"
    )
    data: DataPlace | None = Field(
        default=None, description="where the data lay that `spec.data` is the digest of"
    )


class EnvironmentRecord(Record):
    """env.json: the machine and software that a trial ran on."""

    device: str | None = Field(default=None, description="cpu or cuda")
    device_name: str | None = Field(default=None, description="of the processor or the GPU")
    cpu_capability: str | None = Field(default=None, description="instructions that torch uses")
    threads: int | None = Field(default=None, description="CPU threads")
    torch: str | None = Field(default=None, description="version, with its build")
    matmul: str | None = Field(default=None, description="torch's precision of float32 products")
    python: str | None = Field(default=None, description="version")
    system: str | None = Field(default=None, description="name and release")
    versions: dict[str, str | None] | None = Field(
        default=None, description="of packages; null where one is not installed"
    )
    git_commit: str | None = Field(default=None, description="of the harness's own checkout")
    flags: list[str] = Field(default_factory=list, description="the command line that was typed")


class ErrorRecord(Record):
    """error.json: what stopped a failed trial."""

    error: str = Field(description="one sentence")
    traceback: str = Field(default="", description="where it was raised, for whoever mends it")
    unexpected: bool = Field(
        default=False, description="no sentence for the user: a fault of bench or of a plug-in"
    )


class PlannedTrial(Record):
    """A trial of a plan."""

    spec: Spec = Field(description="what the trial is")
    depends_on: list[str] = Field(
        default_factory=list, description="ids of trials that must be finished first"
    )


class PlanRecord(Record):
    """plan.json: every trial that was asked for, by id."""

    schema_version: int = Field(
        default=SCHEMA, alias="schema", description="version of the layout of records"
    )
    trials: dict[str, PlannedTrial]


def read_cost(path: Path) -> CostRecord:
    """Read a cost.json: what older versions wrote has no seal, everything else must match its own.

    Raises:
        RecordError: it is unreadable, was changed by hand or belongs to another trial.
    """
    raw = read_json(path)
    if isinstance(raw, dict) and "sha256" in raw:
        _check_seal(raw, path)
    record = CostRecord.checked(raw, path)
    if record.id not in (None, path.parent.name):
        raise RecordError(f"it belongs to trial {record.id}", path)
    return record


def read_spec(path: Path) -> SpecRecord:
    """Read a spec.json, or raise a RecordError."""
    return SpecRecord.checked(read_json(path), path)


def read_sources(path: Path) -> dict[str, str]:
    """Read the hashes of code in a spec.json and nothing else of it, or raise a RecordError.

    It is read for every finished trial of a plan.
    """
    return _Sources.checked(read_json(path), path).sources


class _Sources(Record):
    model_config = ConfigDict(extra="ignore")

    sources: dict[str, str]


def read_handover(path: Path) -> HandoverRecord:
    """Read a handover.json, or raise a RecordError."""
    return HandoverRecord.checked(read_json(path), path)


def read_environment(path: Path) -> EnvironmentRecord:
    """Read an env.json, or raise a RecordError."""
    return EnvironmentRecord.checked(read_json(path), path)


def read_error(path: Path) -> ErrorRecord:
    """Read an error.json, or raise a RecordError."""
    return ErrorRecord.checked(read_json(path), path)


def read_plan(path: Path) -> PlanRecord:
    """Read a plan.json, or raise a RecordError: what is no id would be a path to anywhere."""
    raw = read_json(path)
    _refuse_newer(raw, path)
    plan = PlanRecord.checked(raw, path)
    for trial_id in plan.trials:
        if not is_trial_id(trial_id):
            raise RecordError(f"trials has {in_words(trial_id)} where an id should be", path)
    return plan
