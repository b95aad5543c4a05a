"""Events of the past that are loaded into a live system."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

BACKFILL: Final = "clv.backfill"
"""Header of an event whose changes of segment nobody needs to hear of one by one; any value."""


def is_backfill(headers: Sequence[tuple[str, bytes]]) -> bool:
    """Whether a record is history that is loaded.

    Its customer is valued as ever. What it changes in segments is told, once and together, with the
    customer's next event that is no backfill, or when time passes.
    """
    return any(name == BACKFILL for name, _ in headers)
