"""Requests: flags and suite files, checked and merged."""

import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.choices import Budget, Controls, Coupling
from bench.errors import UnknownName, UsageError
from bench.regular_file import read_regular
from bench.store.json_values import AnyJson, Json, JsonObject, in_words

DEFAULT_DATASET = "mnist-5k"
MAX_SEED, MAX_SEEDS = 2**31 - 1, 100_000
MOST_SUITE_BYTES = 1 << 20
_DEEPEST = 8  # names of a place that are shown
Names = str | list[str]


# Per method, or `recipe`: values by option.
OptionsOf: TypeAlias = dict[str, dict[str, AnyJson]]


class Request(BaseModel):
    """The flags of `bench run`; a suite file has the same fields.

    Without `models`, each data set gets the one that fits its task. `options` holds per method (or
    `recipe`) the values to set; a list is a grid.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    methods: Names = Field(default_factory=list)
    models: Names | None = None
    datasets: Names = DEFAULT_DATASET
    targets: str | list[float | int] = "2,8,32"
    seeds: str | int | list[int] = "0-2"
    controls: Controls = "default"
    budget: Budget = "quick"
    coupling: Coupling = "tied"
    weights: str | None = None
    options: OptionsOf = Field(default_factory=dict)


class Suite(Request):
    """A suite file: one request at the top, and blocks `[[run]]` that change parts of it."""

    run: list[dict[str, AnyJson]] = Field(default_factory=list)


R = TypeVar("R", bound=Request)


def requests(suite: Path | None, flags: Mapping[str, object], settings: list[str]) -> list[Request]:
    """Merge a suite file and the flags; flags win.

    Args:
        suite: TOML file, or None.
        flags: those the user gave.
        settings: `--set` values, `method.option=value`.

    Raises:
        UsageError: unreadable or invalid, with the place in the file.
    """
    chosen = _set_options(settings)
    top, blocks = Request(), [Request()]
    source = "the command line"
    if suite is not None:
        source = str(suite)
        whole = _validated(Suite, _toml(suite), source)
        top, blocks = whole, [_validated(Request, b, source) for b in whole.run] or blocks
    merged = []
    for block in blocks:
        options = _merge(_merge(top.options, block.options), chosen)
        values = {**_given(top), **_given(block), **flags, "options": options}
        merged.append(_validated(Request, values, source))
    if not any(r.methods for r in merged):
        raise UsageError(
            "Say which methods to run: bench run --methods magnitude,dropnet, or name a suite "
            "(bench list suites)"
        )
    return merged


def parse_seeds(given: str | int | list[int]) -> list[int]:
    """Return seeds from `0-9`, `0,1,2`, `5` or a list."""
    if isinstance(given, int):
        given = [given]
    if isinstance(given, list):
        seeds = given
    else:
        seeds = []
        for part in given.split(","):
            match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
            if match is None:
                raise UsageError(f"--seeds {given!r}: {part!r} is not a seed such as 3 or 0-9")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise UsageError(
                    f"--seeds {given!r}: {part!r} runs backwards; write {last}-{first}"
                )
            if last > MAX_SEED or last - first >= MAX_SEEDS:
                raise UsageError(
                    f"--seeds {given!r}: seeds go up to {MAX_SEED}, and at most {MAX_SEEDS} at once"
                )
            seeds += range(first, last + 1)
    if any(not 0 <= s <= MAX_SEED for s in seeds) or not seeds:
        raise UsageError(f"--seeds {given!r}: seeds are whole numbers from 0 to {MAX_SEED}")
    return list(dict.fromkeys(seeds))


def parse_targets(given: str | list[float | int]) -> list[float]:
    """Return compressions; a value below 1 is a share removed, so 0.9 is 10."""
    parts = [p for p in given.split(",") if p.strip()] if isinstance(given, str) else given
    targets = []
    for part in parts:
        try:
            value = float(part)
        except ValueError:
            raise UsageError(f"--targets {given!r}: {part!r} is not a number") from None
        if not math.isfinite(value) or value <= 0 or value == 1:
            raise UsageError(
                f"--targets: {part} cannot be a target; above 1 it is a compression (8 = an eighth "
                "is left), between 0 and 1 the share removed"
            )
        compression = value if value > 1 else round(1 / (1 - value), 9)
        if compression <= 1:
            raise UsageError(f"--targets: {part} removes nothing that could be counted")
        targets.append(compression)
    if not targets:
        raise UsageError(f"--targets {given!r} names no target; try --targets 2,8,32")
    return sorted(set(targets))


def parse_setting(text: str) -> tuple[str, str, list[Json]]:
    """Split `dropnet.drop=0.1,0.2` into owner, option and values."""
    match = re.fullmatch(r"([\w-]+)\.(\w+)=(.+)", text)
    if match is None:
        raise UsageError(f"--set {text!r} is not of the form method.option=value")
    return match[1], match[2], [_literal(v.strip()) for v in match[3].split(",")]


def _set_options(settings: list[str]) -> OptionsOf:
    options: OptionsOf = {}
    for text in settings:
        owner, option, values = parse_setting(text)
        options.setdefault(owner, {})[option] = values[0] if len(values) == 1 else values
    return options


def _literal(text: str) -> Json:
    if text.lower() == "none":
        return "none"
    try:
        value: Json = tomllib.loads(f"v = {text}")["v"]
        return value
    except (ValueError, RecursionError):
        return text


def _given(request: Request) -> dict[str, object]:
    """Return the fields that were given; the others are left to whoever comes after."""
    return request.model_dump(exclude={"run"}, exclude_unset=True)


def _merge(first: OptionsOf, second: OptionsOf) -> OptionsOf:
    return {k: {**first.get(k, {}), **second.get(k, {})} for k in {*first, *second}}


def _toml(path: Path) -> JsonObject:
    try:
        return tomllib.loads(read_regular(path, MOST_SUITE_BYTES).decode())
    except OSError as error:
        raise UsageError(f"The suite {path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UsageError(f"The suite {path} is nested too deeply to be read") from error
    except ValueError as error:  # TOML's own, of bytes that are no text, of numbers of 5,000 digits
        raise UsageError(f"The suite {path} is not valid TOML: {error}") from error


def _validated(kind: type[R], values: Mapping[str, object], source: str) -> R:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = [str(part) for part in first["loc"]]
        where = ".".join(place[:_DEEPEST]) + ("…" if len(place) > _DEEPEST else "") or "the file"
        if first["type"] == "extra_forbidden":
            unknown = UnknownName("field", str(first["loc"][-1]), kind.model_fields)
            raise UsageError(f"{source}: {unknown}") from None
        raise UsageError(
            f"{source}: {where}: {first['msg']}, not {in_words(first['input'])}"
        ) from None
