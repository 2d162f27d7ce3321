"""JSON: its types, and files of it that are read with one kind of error."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from pydantic import JsonValue, ValidationError

from bench.regular_file import read_regular

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Json: TypeAlias = "Mapping[str, Json] | Sequence[Json] | str | int | float | bool | None"
JsonObject: TypeAlias = dict[str, Json]
Scalar: TypeAlias = str | int | float | bool | None

# A field of a model that may hold any JSON: pydantic checks it as its own recursive type.
if TYPE_CHECKING:
    AnyJson: TypeAlias = Json
else:
    AnyJson = JsonValue

_LONGEST = 60  # characters of a value that are shown
_DEEPEST = 8  # names of a place that are shown


class RecordError(ValueError):
    """A file that is not the record it should be: one sentence that names the file and the field.

    Attributes:
        problem: the sentence without the file's name.
    """

    def __init__(self, problem: str, path: Path | None = None) -> None:
        self.problem = problem
        super().__init__(problem if path is None else f"{path}: {problem}")


class RecordMissing(RecordError):
    """A record that was never written."""


class RecordUnreadable(RecordError):
    """A record that cannot be read here and now, and may be sound: its file stays where it is."""


def read_json(path: Path) -> Json:
    """Read a file of JSON.

    Raises:
        RecordMissing: there is no such file.
        RecordUnreadable: the system does not let it be read.
        RecordError: it is no JSON: damaged, nested too deeply, or with NaN in it.
    """
    try:
        found: Json = _DECODER.decode(read_regular(path).decode())
        return found
    except FileNotFoundError as error:
        raise RecordMissing("it is missing", path) from error
    except OSError as error:
        raise RecordUnreadable(f"it cannot be read ({error.strerror})", path) from error
    except RecursionError as error:
        raise RecordError("it should be JSON, but is nested too deeply to be read", path) from error
    except RecordError as error:
        raise RecordError(f"it should be JSON, but {error}", path) from error
    except ValueError as error:
        raise RecordError(f"it should be JSON, but is damaged ({error})", path) from error


def _refuse_constant(name: str) -> NoReturn:
    raise RecordError(f"holds {name}, which is no number of JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def what_is_wrong(error: ValidationError, value: object, root: str = "it") -> str:
    """Say in plain words which field is wrong, what was expected and what was found.

    Args:
        value: what was checked.
        root: what the whole is called where no single field is wrong.
    """
    problems = error.errors(include_url=False)
    kind, place, found = problems[0]["type"], _place(problems[0], value), problems[0]["input"]
    if kind == "value_error":  # of a part that says where by itself
        return ".".join([*place[:-1], str(problems[0]["ctx"]["error"])])
    name = ".".join(place[:_DEEPEST]) + ("…" if len(place) > _DEEPEST else "") or root
    if kind == "missing":
        return f"{name} is missing"
    if kind == "extra_forbidden":
        return f"{name} is a field that this version does not know"
    alternatives = [_expected(p) for p in problems if _place(p, value) == place]
    if _NUMBER in alternatives and _WHOLE in alternatives:
        alternatives.remove(_WHOLE)
    expected = " or ".join(dict.fromkeys(alternatives))
    return f"{name} should be {expected}, but is {in_words(found)}"


def _place(problem: "ErrorDetails", value: object) -> list[str]:
    """Return the keys and indices that lead to a wrong value, without pydantic's names of types."""
    place = []
    for part in problem["loc"]:
        inside = _inside(value, part)
        if inside is not _NOTHING:
            value = inside
        elif problem["type"] != "missing":
            continue
        place.append(str(part))
    return place


_NOTHING = object()


def _inside(value: object, part: int | str) -> object:
    """Return what stands under a key or index of a value; `_NOTHING` where there is no such thing."""
    if isinstance(value, Mapping):
        return value.get(part, _NOTHING)
    if isinstance(value, list) and isinstance(part, int) and part < len(value):
        return value[part]
    return _NOTHING


def _expected(problem: "ErrorDetails") -> str:
    named = _EXPECTED.get(problem["type"]) or problem.get("ctx", {}).get("expected")
    return str(named or problem["msg"])


_WHOLE, _NUMBER, _OBJECT = "a whole number", "a number", "an object of named values"
_EXPECTED = {
    "int_type": _WHOLE,
    "float_type": _NUMBER,
    "finite_number": _NUMBER,
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": _OBJECT,
    "model_type": _OBJECT,
    "none_required": "null",
    "recursion_depth_exceeded": "nested less deeply",
    "recursion_loop": "nested less deeply",
    "invalid-json-value": "a value of JSON",
}


def in_words(value: object) -> str:
    """Return a JSON value as a reader would name it, cut where it is long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return "a number beyond all floats" if math.isinf(value) else "NaN"
    if isinstance(value, int | float):
        return f"the number {_cut(repr(value))}"
    if isinstance(value, str):
        return f"the text {_cut(repr(value))}"
    if isinstance(value, Mapping):
        return f"an object of {len(value)} values" if value else "an empty object"
    if isinstance(value, Sequence):
        return f"a list of {len(value)} values" if value else "an empty list"
    return f"a {type(value).__name__}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
