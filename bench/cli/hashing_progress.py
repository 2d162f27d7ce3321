"""Progress while the files of a data set are hashed, on a terminal and where it takes a while."""

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

_FILES_WORTH_A_BAR = 2_000
_BYTES_WORTH_A_BAR = 2**28


class HashingProgress:
    """A bar over the bytes of files."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self._bar: Progress | None = None

    def begin(self, files: int, size: int) -> None:
        is_long = files >= _FILES_WORTH_A_BAR or size >= _BYTES_WORTH_A_BAR
        if not is_long or not self.console.is_terminal:
            return
        text = TextColumn(f"Reading {files:,} files of data once")
        columns = (text, BarColumn(), DownloadColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self.console, transient=True)
        self._bar.add_task("", total=size)
        self._bar.start()

    def advance(self, size: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], size)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
