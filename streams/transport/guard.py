"""The guard of the logs that an app reads; the transport calls it at critical moments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from faust.types import TP

from models.errors import ClvError


class OutOfRange(ClvError):
    """The log does not have the offset that is to be read next.

    Records were deleted before they were read, or the log lost its end. The worker stops; aiokafka
    would read on from the first record.
    """


class Guard(Protocol):
    """Stops the app if the logs are not those that its state was built on."""

    async def before_flow(self) -> None:
        """Called after the recovery of the tables, before any record is delivered."""

    async def out_of_range(self, positions: Mapping[TP, int]) -> Exception:
        """Return the error to raise for positions outside of their logs."""

    def at_rest(self) -> None:
        """Called before partitions are given up, when all work is finished and committed."""
