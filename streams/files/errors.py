"""What can be wrong with a file."""

from pathlib import Path

from models.errors import ClvError


class InputFileError(ClvError, ValueError):
    """A file, or one row of it, cannot be turned into events; the text says where and what to do.

    `line` is the line of a CSV or JSONL file, the row of a Parquet file (both from 1), and None
    when the error concerns the whole file.
    """

    def __init__(self, path: Path, line: int | None, message: str) -> None:
        self.path = path
        self.line = line
        self.message = message
        where = str(path) if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {message}")
