"""Options of methods and recipes: checked against the fields of their classes."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from bench.errors import UnknownName, UsageError
from bench.plan.registry import Registry
from bench.store.json_values import Json, JsonObject
from bench.training.method import Method
from bench.training.recipe import Recipe

Options: TypeAlias = Mapping[str, Json]
T = TypeVar("T", Method, Recipe)


def method_of(registry: Registry, name: str, options: Options) -> Method:
    """Return a method with its options set.

    Raises:
        UnknownName: an option it does not have.
        UsageError: a value that is not of the option's type.
    """
    return _built(registry.method(name), name, options)


def recipe_of(base: Recipe, changes: Options) -> Recipe:
    """Return a recipe with some fields changed."""
    fields = {f.name: getattr(base, f.name) for f in dataclasses.fields(Recipe)}
    if "full_epochs" in changes:
        raise UsageError(
            "recipe.full_epochs: set recipe.epochs, the length of this run's trainings"
        )
    return _built(Recipe, "recipe", {**fields, **changes})


def recipe_from(changes: Options) -> Recipe:
    """Return the recipe that a specification stores as its changes from the general defaults."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    return Recipe(**fields)


def non_default(thing: Method | Recipe) -> JsonObject:
    """Return the fields of a dataclass object that differ from its class's defaults, as JSON."""
    values: JsonObject = {}
    for f in dataclasses.fields(thing):
        value = getattr(thing, f.name)
        if value != f.default:
            values[f.name] = list(value) if isinstance(value, tuple) else value
    return values


def grid(options: Options) -> list[JsonObject]:
    """Expand options whose value is a list into every combination."""
    names = list(options)
    choices = [v if isinstance(v, list) else [v] for v in options.values()]
    for name, values in zip(names, choices, strict=True):
        if not values:
            raise UsageError(f"The option {name} is an empty list; leave it out for its default")
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*choices)]


def _built(cls: type[T], owner: str, values: Mapping[str, object]) -> T:
    known = [f.name for f in dataclasses.fields(cls)]
    for name in values:
        if name not in known:
            raise UnknownName(f"option of {owner}", name, known)
    values = {k: None if v == "none" and _allows_none(cls, k) else v for k, v in values.items()}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{owner}.{name} is {value}, but must be a finite number")
        if isinstance(value, bool) and "bool" not in _annotation(cls, name):
            raise UsageError(f"{owner}.{name} is not a switch (given: {value})")
    try:
        return TypeAdapter(cls).validate_python(values)
    except PydanticUserError as error:
        raise UsageError(f"An option of {owner} has a type that cannot be set: {error}") from None
    except ValidationError as error:
        raise _told(error, owner) from None


def _told(error: ValidationError, owner: str) -> UsageError:
    """Return the first of the values that were refused, as a sentence."""
    first = error.errors()[0]
    where = ".".join([owner, *(str(p) for p in first["loc"] if isinstance(p, str))][:2])
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # what `__post_init__` says of the options together
        return UsageError(message if message.startswith(owner) else f"{where}: {message}")
    return UsageError(f"{where}: {message} (given: {_short(first['input'])})")


def _allows_none(cls: type[T], name: str) -> bool:
    return "None" in _annotation(cls, name)


def _annotation(cls: type[T], name: str) -> str:
    return str(next(f.type for f in dataclasses.fields(cls) if f.name == name))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
