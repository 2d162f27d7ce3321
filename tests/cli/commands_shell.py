"""What a command line call gave back, and the arguments of the smallest run."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Shell:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str


Bench = Callable[..., Shell]
SMOKE = ("--models", "fc-20-20", "--budget", "smoke", "--seeds", "0", "--jobs", "1")
