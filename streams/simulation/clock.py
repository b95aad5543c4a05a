"""The clock of a simulation: it stands still until it is moved, or an event is later."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from streams.files.values import parse_time

START = datetime(2026, 7, 1, 12, tzinfo=UTC)
"""What time it is at the start: always the same, so that a test is the same tomorrow."""

Moment = str | date | datetime
"""A time: ISO 8601 text, a date, which is noon of it, or a datetime, local in the shop's zone."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Clock:
    """The time of a simulation: for its workers, and for the timestamps of records.

    It follows later events, as stream time does, until a test sets it.
    """

    def __init__(self, zone: str = "UTC", start: Moment = START) -> None:
        self._zone = ZoneInfo(zone)
        self._now = self._utc(start)
        self._set = False

    @property
    def time(self) -> datetime:
        """The time, in UTC."""
        return self._now

    def now(self) -> int:
        """Milliseconds since 1970."""
        return milliseconds(self._now)

    def set(self, to: Moment) -> None:
        """Make it this time, and follow events no longer: those of more than a day later are
        refused, as they are by a service whose clock is right.
        """
        self._now = self._utc(to)
        self._set = True

    def move(self, by: timedelta, to: Moment | None = None) -> None:
        """Move to a time, or by so much; ValueError for both, and for going back."""
        if to is not None and by:
            raise ValueError(f"time passes by {by} or up to {to}, not both")
        target = self._now + by if to is None else self._utc(to)
        if target < self._now:
            raise ValueError(
                f"the clock is at {self._now.isoformat()} and does not go back to "
                f"{target.isoformat()}; start the test at an earlier time: clock.set(...)"
            )
        self._now = target

    def follow(self, moment: datetime) -> None:
        """Note the time of an event."""
        if not self._set and moment > self._now:
            self._now = moment.astimezone(UTC)

    def moment(self, value: Moment) -> datetime:
        """A time as the tests write it; ValueError for what is none."""
        return parse_time(value, self._zone)

    def _utc(self, value: Moment) -> datetime:
        # Within a zone datetimes are added to and compared as its wall clocks show them.
        return self.moment(value).astimezone(UTC)


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return (moment - _EPOCH) // _MILLISECOND
