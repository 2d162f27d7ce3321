"""The folder of what this user's runs remember between results folders."""

import os
from pathlib import Path


def user_cache() -> Path:
    """Return the folder, which may not be there and may not be writable."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(given) if Path(given).is_absolute() else Path(os.path.expanduser("~/.cache"))  # noqa: PTH111
    return base / "prunebench"
