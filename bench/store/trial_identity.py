"""A trial's identity: the twelve hex digits of its canonical specification."""

import dataclasses
import hashlib
import inspect
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from bench.choices import Budget, Coupling
from bench.store.json_values import AnyJson, Json, JsonObject, RecordError, what_is_wrong

SCHEMA = 1
_ID = re.compile(r"[0-9a-f]{12}")


def is_trial_id(name: str) -> bool:
    """Return True for what can be the id of a trial, and the name of its folder."""
    return _ID.fullmatch(name) is not None


@dataclass(frozen=True)
class TrialSpec:
    """One cell of the benchmark.

    Attributes:
        method_version: the method's own; results of another version are another trial.
        options: the method's options that differ from its defaults, so that a new option orphans
            no old result.
        target: compression; None where the rate is emergent or nothing is pruned.
        recipe: the recipe's fields that differ from the general defaults.
        coupling: what becomes of units that are added into one stream (`Layout.coupling`).
        weights: what a pretrained network is loaded from: a name of torchvision's or the hash of
            a file; None: it is trained here.
        threads: CPU threads; other numbers than 1 give other bits.
        data: digest of the content of data that no package ships; None for those that come inside one,
            and for those that are drawn from the seed. Where they lie is not part of a trial.
        rates_of: id of the trial whose rates this control follows.
        budget_of: id of the trial whose whole training cost this control spends.
        sources: the code of its method, model and dataset where it is not shipped with bench: the
            hash of a user's file with its neighbours, or an installed package and its version.
    """

    method: str
    method_version: int
    model: str
    dataset: str
    seed: int
    target: int | float | None = None  # 2 and 2.0 are two spellings: neither becomes the other
    options: dict[str, AnyJson] = field(default_factory=dict)
    recipe: dict[str, AnyJson] = field(default_factory=dict)
    budget: Budget = "quick"
    protocol: str = "common"
    protocol_version: int = 1
    coupling: Coupling = "tied"
    weights: str | None = None
    threads: int = 1
    data: str | None = None
    rates_of: str | None = None
    budget_of: str | None = None
    sources: dict[str, AnyJson] = field(default_factory=dict)

    def as_json(self) -> JsonObject:
        """Return the specification; what has its default is left out."""
        values: JsonObject = {"schema": SCHEMA}
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                values[name] = value
        return values

    @classmethod
    def from_json(cls, values: Json) -> "TrialSpec":
        """Read a specification; its values stay as they are, for the id is made of them.

        Raises:
            RecordError: a field is missing, unknown or of another type.
        """
        try:
            checked = SpecFields.model_validate(values)
        except ValidationError as error:
            wrong = what_is_wrong(error, values, root="")
            raise RecordError(f"spec.{wrong}" if wrong[0] != " " else f"spec{wrong}") from error
        found = vars(checked)
        if (schema := found.pop("schema_")) != SCHEMA:
            raise RecordError(f"spec.schema is {schema}, this version reads {SCHEMA}")
        return cls(**found)

    @cached_property
    def id(self) -> str:
        """12 hex digits; frozen by a test."""
        return hashlib.sha256(canonical(self.as_json())).hexdigest()[:12]

    @property
    def depends_on(self) -> tuple[str, ...]:
        return tuple(i for i in (self.rates_of, self.budget_of) if i is not None)

    @property
    def label(self) -> str:
        """The name of a trial in progress lines."""
        options = ",".join(f"{k}={v}" for k, v in sorted(self.options.items()))
        method = f"{self.method}[{options}]" if options else self.method
        target = f" {self.target:g}x" if self.target is not None else ""
        control = f" (control of {self.depends_on[0]})" if self.depends_on else ""
        more = "".join(f" {v}" for v in (self.weights, self._branches) if v)
        return f"{method}{target} {self.model}{more} {self.dataset} seed {self.seed}{control}"

    @property
    def _branches(self) -> str:
        return "" if self.coupling == "tied" else self.coupling


def _checked_fields() -> type[BaseModel]:
    """Make the model that checks a specification's types and turns none of its values into another."""
    hints = get_type_hints(TrialSpec)
    fields: dict[str, object] = {
        name: (hints[name], ... if default is dataclasses.MISSING else default)
        for name, default in _DEFAULTS.items()
    }
    fields["schema_"] = (int, Field(default=SCHEMA, alias="schema", description="of records"))
    strictly = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
    made: type[BaseModel] = create_model(  # type: ignore[call-overload]
        "TrialSpec", __config__=strictly, __doc__=inspect.getdoc(TrialSpec), **fields
    )
    return made


def _default(f: "dataclasses.Field[object]") -> object:
    """Return a field's default; MISSING, which equals no value, where it has none."""
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default


def canonical(value: object) -> bytes:
    """Return JSON that is the same for equal values: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


_DEFAULTS = {f.name: _default(f) for f in dataclasses.fields(TrialSpec)}
SpecFields = _checked_fields()
