"""The header of a record that was loaded from a file: by which command, and from which line.

A dead letter keeps it, so that what was refused of a load can be counted and found in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

LOADED = "clv.loaded"
"""Name of the header; its value is "RUN FILE:LINE", or "RUN NAME" for a data set."""


class Loaded(NamedTuple):
    """run: a random number of the command. where: the file and the line."""

    run: str
    where: str

    def header(self) -> tuple[str, bytes]:
        """Return the header."""
        return LOADED, f"{self.run} {self.where}".encode("utf-8", "backslashreplace")


def loaded_of(headers: Iterable[tuple[str, bytes | None]]) -> Loaded | None:
    """Return by what a record was loaded; None if it was not."""
    for name, value in headers:
        if name == LOADED:
            run, _, where = (value or b"").decode("utf-8", "replace").partition(" ")
            return Loaded(run, where)
    return None
