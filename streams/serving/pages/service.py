"""How far the workers are, as the overview and the page of operations show it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from streams.serving.operations import RECORDS, SECONDS
from streams.serving.pace import WINDOW
from streams.serving.sources import Sources

FIRST_SECONDS: Final = 1.0
"""How long a page waits for the first look; then it says that Kafka is being asked."""

_OLD: Final = timedelta(seconds=4 * SECONDS)
"""A look as old as this is not current, even if none has failed: one is under way."""

STILL_SECONDS: Final = 30.0
"""Without progress for so long while events wait, something is wrong."""


async def service(sources: Sources) -> dict[str, Any]:
    """Return what the template needs."""
    looks = sources.following.looks
    found = await looks.first(FIRST_SECONDS)
    since = looks.outage.since
    if found and datetime.now(UTC) - found.at > _OLD:
        since = found.at
    return {
        "found": found,
        "unknown_since": since,
        "unknown_why": looks.outage.why if looks.outage.since else "no answer yet",
        "still": found is not None and found.pace.still >= STILL_SECONDS,
        "window": WINDOW,
        "looked": RECORDS,
    }
