"""Files of data: what is missing, or no plain file, is said in the words of data sets."""

import os
from pathlib import Path

from bench.errors import DataDamaged, DataMissing
from bench.regular_file import NoRegularFile, check_regular, printable


def is_folder(path: Path) -> bool:
    """Return True for a folder; False for what cannot be reached or be a name at all, too."""
    return os.path.isdir(path)  # noqa: PTH112 - pathlib's raises for some of them


def size_of_file(path: Path, remedy: str = "put the data set's file there") -> int:
    """Return the size of a plain file in bytes, which is not opened.

    Raises:
        DataMissing: there is nothing.
        DataDamaged: there is something else, or it cannot be looked at.
    """
    try:
        return check_regular(path)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise DataMissing(
                f"{printable(path)} is a link to {printable(path.readlink())}, where nothing is; {remedy}"
            ) from error
        raise DataMissing(f"{printable(path)} is missing; {remedy}") from error
    except NoRegularFile as error:
        what = str(error.strerror).removeprefix("it ")
        raise DataDamaged(f"{printable(path)} {what}; {remedy}") from error
    except OSError as error:
        raise DataDamaged(
            f"{printable(path)} cannot be read ({error.strerror}); {remedy}"
        ) from error
