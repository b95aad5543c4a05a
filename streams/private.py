"""Files and directories that hold customers' data: made so that only their owner can read them.

The mode is given when they are made, whatever the umask allows; what was there before keeps its
own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def open_private(path: Path, mode: str, **given: Any) -> IO[Any]:
    """Open a file as `open` does; one that has to be made is readable by its owner only."""
    return open(path, mode, opener=_opener, **given)


def new_private(path: Path, mode: str, **given: Any) -> IO[Any]:
    """Make a file in the place of what has its name, which may be a link or another's file."""
    path.unlink(missing_ok=True)
    return open_private(path, mode.replace("w", "x"), **given)


def make_private_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, each for their owner only."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
