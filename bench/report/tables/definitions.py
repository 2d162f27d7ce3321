"""The definitions of the tables' columns, as they are printed below them."""

from collections.abc import Collection
from dataclasses import dataclass

from bench.data.tasks import TASKS
from bench.report.statistics import INDISTINCT


@dataclass(frozen=True)
class Definition:
    """A term, and the key of what needs it: a task, a column, or something that stands in one."""

    key: str
    term: str
    meaning: str


def definitions_for(keys: Collection[str]) -> tuple[Definition, ...]:
    """Return what has to be said, always in the same order."""
    tasks = [
        Definition(name, task.term or task.headline.title, task.meaning)
        for name, task in TASKS.items()
        if task.meaning
    ]
    return tuple(d for d in (*_FIRST, *tasks, *_REST) if d.key in keys)


_FIRST = (
    Definition(
        "±",
        "±",
        "half of the 95 % t interval of the mean over seeds; it covers seeds, not the choice of "
        "test images. A single run has none.",
    ),
    Definition("n", "n", "finished runs, one per seed."),
)
_REST = (
    Definition(
        "collapsed",
        "collapsed",
        "no better than an output that is the same for every input: for classes top-1 within 0.5 "
        "points of chance. Such runs are part of all that is shown; where some collapsed, the mean "
        "of the others follows in brackets, if means are shown.",
    ),
    Definition(
        "before",
        "before pruning",
        "the same network, measured just before its small weights were dropped: what the dropping "
        "itself did.",
    ),
    Definition(
        "support",
        "support exact",
        "runs whose network reads just the inputs that the targets depend on: every other one has "
        "lost all its weights.",
    ),
    Definition(
        "target",
        "target",
        "the compression asked for; it binds the kept parameters. Figures and columns use what "
        "was reached. 'own' is a rate that the method arrives at by itself.",
    ),
    Definition(
        "pruning_rate",
        "pruning rate",
        "1 − effective / dense parameters, all parameters counted. A kept weight whose input or "
        "output unit is dead is not effective, so two masks of equal size may differ in it.",
    ),
    Definition("compression", "compression", "dense / effective parameters."),
    Definition(
        "density", "density", "share of the weights of convolutions and linear layers that is kept."
    ),
    Definition(
        "live_units",
        "live units",
        "units of each layer that kept weights enter and leave, the network's inputs first: means "
        "over seeds, rounded. Left out for networks of more than six layers.",
    ),
    Definition(
        "compact",
        "compact size",
        "parameters of the network that is left after real removal of dead units, all of its "
        "layers whole again / dense parameters.",
    ),
    Definition(
        "file",
        "file",
        "bytes of all the network's numbers in float32 / bytes of the file it was written to, "
        "biases, tables and header included, with fixed widths and with Huffman codes. The file "
        "was read back, and what it decodes to is what was measured.",
    ),
    Definition("units", "units kept", "share of neurons and filters left, for methods that drop "
               "whole units."),
    Definition(
        "speedup_theoretical",
        "theoretical speed-up",
        "multiply-adds of convolutions and linear layers for one sample, dense / effective; "
        "counted, not timed.",
    ),
    Definition(
        "speedup_measured",
        "measured speed-up",
        "time of the dense network / time of the network after real removal, batch size 1, taken in "
        "turn on the machine named below, median. Zeros inside a layer make nothing faster: a "
        "network masked weight by weight runs at its dense speed, but for the units it lost.",
    ),
    Definition(
        "epochs",
        "epochs",
        "all training the final network needed, its dense start included, whoever computed it.",
    ),
    Definition(
        "random",
        "random (of X)",
        "random scores, at X's own counts in every layer, with X's start, rounds and "
        "retraining; where X rewinds or trains in its own way, one training under a mask drawn "
        "before it.",
    ),
    Definition(
        "points",
        "difference",
        "top-1, or another task's percentage, minus that of the named control or method, paired by "
        "seed: mean ± half of its 95 % t interval, not corrected for the number of rows. "
        f"'{INDISTINCT}': the interval holds 0, or there are fewer than 3 pairs.",
    ),
    Definition(
        "log ratio",
        "ratio",
        "an error divided by that of the named control or method, paired by seed: geometric mean "
        "and, in brackets, the 95 % t interval of the logarithms, not corrected for the number of "
        f"rows. Below 1 is better, for errors should be low. '{INDISTINCT}': the interval holds 1, "
        "or there are fewer than 3 pairs.",
    ),
)  # fmt: skip
