"""Which time is now: from then on counts what is to come."""

from __future__ import annotations

from datetime import UTC, datetime

from models.calendar import milliseconds
from streams.settings import Settings


def now_of(settings: Settings) -> int:
    """Return the time in milliseconds since 1970: the configured one, or the clock's."""
    return milliseconds(settings.serve.now or datetime.now(UTC))
