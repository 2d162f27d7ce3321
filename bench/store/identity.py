"""What a function or class is, for the key of a phase that runs it."""

import inspect
from collections.abc import Callable
from typing import Any

from bench.errors import TrialFailed
from bench.store import source_hash


def of_function(fn: Callable[..., Any]) -> dict[str, Any]:
    """What a function is: its module's code, its name and, for a method, its object's fields.

    Raises:
        TrialFailed: it is a closure, a lambda or an object, whose hidden values no key could see.
    """
    if not (inspect.isroutine(fn) and hasattr(fn, "__qualname__")):
        raise TrialFailed(
            f"{fn!r} is an object or a closure of values that a phase's key cannot see; "
            "write a function at the top of a module"
        )
    if fn.__module__.startswith("torch."):
        return {"name": f"{fn.__module__}.{fn.__qualname__}"}
    owner = getattr(fn, "__self__", None)
    plain = inspect.unwrap(fn)
    if owner is None and (getattr(plain, "__closure__", None) or plain.__name__ == "<lambda>"):
        raise TrialFailed(
            f"{plain.__qualname__} is a closure, whose hidden values a phase's key cannot see; "
            "write it at the top of a module and pass the values as arguments"
        )
    facts: dict[str, Any] = {"name": plain.__qualname__, "code": of_code(plain)}
    if owner is not None:
        facts["owner"] = of_class(type(owner))
        facts["fields"] = {k: repr(v) for k, v in vars(owner).items()}
    return facts


def of_class(cls: type) -> list[str]:
    """What a class is: its own code and that of its bases."""
    return [of_code(c) for c in cls.__mro__ if c.__module__ != "builtins"]


def of_code(thing: Any) -> str:
    """What a function or class is: its name and its module's code."""
    return f"{thing.__qualname__}:{source_hash.of_object(thing)}"
