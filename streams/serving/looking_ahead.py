"""Whose segment changes in the days to come if they stay silent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from models.coming import Coming, coming_of, looks
from models.context import Context
from streams.serving.changelog import interpretation, partitions
from streams.serving.clock import now_of
from streams.settings import Settings

DAYS: Final = 7


class Ahead(NamedTuple):
    """The changes to come, by customer, each customer's in order.

    at: when they were computed. now, until: of which time, in milliseconds since 1970. What comes
    before now is due already, and not told yet. backfilled: customers whose last event is of a
    backfill; what has changed for them is told by the tick at its end, and not listed.
    """

    at: datetime
    now: int
    until: int
    changes: dict[str, list[Coming]]
    backfilled: int


async def ahead(settings: Settings) -> Ahead:
    """Return the changes of the days to come. Errors: KafkaError, OSError, ClvError."""
    at, now, economics = datetime.now(UTC), now_of(settings), settings.economics
    until = economics.day_begins(economics.day(now) + DAYS)
    by = await interpretation(settings)
    context = Context(by.economics, by.parameters, by.rules)
    changes: dict[str, list[Coming]] = {}
    backfilled = 0
    async for states in partitions(settings):
        found = looks(states, states, context)
        backfilled += sum(each.backfilled for each in found)
        for each in coming_of(states, found, context, until):
            changes.setdefault(each.customer_id, []).append(each)
    return Ahead(at, now, until, changes, backfilled)
