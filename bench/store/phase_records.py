"""The records of phases and of a training's progress, which stand in the headers of their files."""

from typing import Literal

from pydantic import ConfigDict, Field

from bench.store.json_values import AnyJson, JsonObject
from bench.store.records import Record

LogLine = dict[str, AnyJson]


class _PhaseValues(Record):
    """Values of a phase: a method's own may be NaN or infinite, and work in progress changes."""

    model_config = ConfigDict(frozen=False, allow_inf_nan=True)

    def as_json(self) -> JsonObject:
        """Return every field, those with their default too: work in progress changes them in place."""
        return self.model_dump(warnings=False)


class Cost(_PhaseValues):
    """The cost of a phase. All but the seconds are the same on every machine."""

    epochs: int = Field(default=0, description="epochs trained")
    images_seen: int = Field(default=0, description="images trained on")
    images_forward: int = Field(
        default=0, description="images of every forward pass, those trained on included"
    )
    multiply_adds_outside: int = Field(
        default=0,
        description="multiply-adds of every pass outside trainings, forward and backward, whatever made it",
    )
    optimizer_steps: int = Field(default=0, description="steps of the optimiser")
    seconds: float = Field(default=0.0, description="seconds, over all processes that shared it")

    def add(self, other: "Cost") -> None:
        self.epochs += other.epochs
        self.images_seen += other.images_seen
        self.images_forward += other.images_forward
        self.multiply_adds_outside += other.multiply_adds_outside
        self.optimizer_steps += other.optimizer_steps
        self.seconds += other.seconds


class Progress(_PhaseValues):
    """The progress of a training: with the tensors, everything that a resumed one needs."""

    epoch: int = Field(description="epochs done, from the schedule's start")
    step: int = Field(default=0, description="batches done of the epoch after")
    cost: Cost = Field(default_factory=Cost, description="of what is done")
    log: list[LogLine] = Field(default_factory=list, description="a line for each epoch, and more")
    callback: dict[str, AnyJson] = Field(
        default_factory=dict, description="plain fields of the callback"
    )
    at_floor: bool = Field(default=False, description="nothing more may be dropped")


class PhaseRecord(_PhaseValues):
    """A finished phase."""

    cost: Cost
    log: list[LogLine] = Field(description="lines that were logged inside")


class TrainingPhase(PhaseRecord):
    """A finished training; its tensors are the network, the masks and the callback's."""

    callback: dict[str, AnyJson] = Field(description="plain fields of the callback at the end")
    at_floor: bool = Field(description="nothing more may be dropped")


class CallPhase(PhaseRecord):
    """A finished call of `Trial.once`; where it returned tensors, they stand beside the record."""

    kind: Literal["tensors", "json"] = Field(description="what the function returned")
    value: AnyJson = Field(default=None, description="what it returned, where that is JSON")

    def as_json(self) -> JsonObject:
        """Return every field; no value where tensors stand in its place."""
        values = super().as_json()
        names = ("kind", "value", "log", "cost") if self.kind == "json" else ("kind", "log", "cost")
        return {name: values[name] for name in names}
