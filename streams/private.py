"""Create files and directories with customers' data so that only their owner can read them.

The mode is set at creation, whatever the umask; existing files keep theirs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any, Final

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700


def open_private(path: Path, mode: str, **given: Any) -> IO[Any]:
    """Open a file as `open` does; a new file is readable by its owner only."""
    return open(path, mode, opener=_opener, **given)


def new_private(path: Path, mode: str, **given: Any) -> IO[Any]:
    """Create a file, replacing an existing one of that name, be it a link or another user's."""
    path.unlink(missing_ok=True)
    return open_private(path, mode.replace("w", "x"), **given)


def make_private_directory(path: Path) -> None:
    """Create a directory and its missing parents, each for the owner only."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    path.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
