"""The names that people give to the folders of training, validation and test images."""

import re
from typing import Literal

Part = Literal["train", "val", "test"]
_WORDS: dict[str, Part | None] = {
    **dict.fromkeys(("train", "training", "trainval", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validating", "validation"), "val"),
    **dict.fromkeys(("dev", "development"), "val"),
    **dict.fromkeys(("test", "tests", "testing", "tst"), "test"),
    # For some these are to choose by, for others to report.
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), None),
}  # fmt: skip
_AFFIX = r"datasets?|data|sets?|images?|imgs?|splits?|samples?|folder|part|\d+"


def is_called_a_part(name: str) -> bool:
    """Return True for the name of a part, in any case of letters: Train, test_set, trainingData, val2017."""
    return _word(name) is not None


def part_called(name: str) -> Part | None:
    """Return the part that a folder's name stands for; None for others, and where it may be either."""
    return _WORDS.get(_word(name) or "")


def _word(name: str) -> str | None:
    """Return the word that is left of a name without its affixes, if it is one for parts."""
    letters = re.sub(r"[\W_]", "", name.casefold())
    while letters:
        if letters in _WORDS:
            return letters
        shorter = re.sub(rf"^(?:{_AFFIX})|(?:{_AFFIX})$", "", letters, count=1)
        if shorter == letters:
            return None
        letters = shorter
    return None
