"""What watches over the logs that an app reads; the transport asks it when it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from faust.types import TP


class OutOfRange(Exception):
    """The log does not have the offset that is to be read next.

    Records were deleted before they were read, or the log lost its end. The worker stops; aiokafka
    would go on from the first record there is.
    """


class Guard(Protocol):
    """May stop the app where the logs are not what its state was computed from."""

    async def before_flow(self) -> None:
        """Called when the tables are recovered and the offsets known, before any record flows."""
        ...

    async def out_of_range(self, positions: Mapping[TP, int]) -> Exception:
        """Say why these positions are outside of their logs; what is returned is raised."""
        ...

    def at_rest(self) -> None:
        """Called when everything in work is finished and committed, before partitions go."""
        ...
