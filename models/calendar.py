"""Times as whole milliseconds since 1970, and the calendar days of a time zone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, tzinfo
from difflib import get_close_matches
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

MILLISECONDS_A_DAY: Final = 86_400_000
EPOCH_ORDINAL: Final = date(1970, 1, 1).toordinal()

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


def milliseconds(moment: datetime) -> int:
    """Return an aware datetime as whole milliseconds since 1970; a started one does not count."""
    return (moment - _EPOCH) // _MILLISECOND


def utc_day(moment: int) -> int:
    """Return the ordinal of the day in UTC of a moment, in milliseconds since 1970."""
    return moment // MILLISECONDS_A_DAY + EPOCH_ORDINAL


def utc_day_begins(day: int) -> int:
    """Return the first moment of a day in UTC, by its ordinal, in milliseconds since 1970."""
    return (day - EPOCH_ORDINAL) * MILLISECONDS_A_DAY


@lru_cache(maxsize=65_536)
def month_of(day: int) -> int:
    """Return the calendar month of a day's ordinal, counted from January of year 0."""
    date_ = date.fromordinal(day)
    return date_.year * 12 + date_.month - 1


def next_month_begins(day: int) -> int:
    """Return the ordinal of the first day of the month after that of a day."""
    date_ = date.fromordinal(day)
    return (date_.replace(day=28) + timedelta(days=4)).replace(day=1).toordinal()


def beginning_of_day(day: date, zone: tzinfo) -> datetime:
    """Return the first moment of a day in a time zone, also if clocks are set at midnight."""
    return datetime.combine(day, time(), zone)


def end_of_day(day: date, zone: tzinfo) -> datetime:
    """Return the first moment after a day, which is no longer part of it: the next day's first.

    Raises OverflowError for the last day that there is.
    """
    return beginning_of_day(day + timedelta(days=1), zone)


def last_millisecond(end: datetime) -> datetime:
    """Return the last millisecond before a moment, in the same time zone."""
    return (end.astimezone(UTC) - _MILLISECOND).astimezone(end.tzinfo)


def time_zone(name: str) -> ZoneInfo:
    """Return the time zone of a name; raises ValueError, with what may have been meant."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        # Several names are directories of time zones, or other files that lie among them.
        raise ValueError(f"{name!r} is not a time zone; {_meant_zone(name)}") from None


def _meant_zone(name: str) -> str:
    names = {zone.lower(): zone for zone in sorted(available_timezones())}
    wanted = name.lower()
    if inside := [zone for each, zone in names.items() if each.startswith(f"{wanted}/")]:
        return f"{len(inside)} time zones begin so, such as {inside[0]}"
    if close := get_close_matches(wanted, names, n=1):
        return f"did you mean {names[close[0]]}?"
    return "write a name such as Europe/Berlin"


class Days:
    """The calendar days of a time zone, as ordinals.

    Where clocks are set back across midnight, a later moment may lie on an earlier day.
    """

    def __init__(self, zone: str) -> None:
        self._zone = time_zone(zone)
        self._offsets: dict[int, tuple[int, int, int]] = {}
        self._begins: dict[int, int] = {}

    def of(self, moment: int) -> int:
        """Return the ordinal of the day of a moment, in milliseconds since 1970."""
        utc_day = moment // MILLISECONDS_A_DAY
        known = self._offsets.get(utc_day)
        if known is None:
            known = self._offsets[utc_day] = self._offsets_of(utc_day)
        before, change, after = known
        offset = before if moment < change else after
        return (moment + offset) // MILLISECONDS_A_DAY + EPOCH_ORDINAL

    def begins(self, day: int) -> int:
        """Return the first moment of a day, by its ordinal, in milliseconds since 1970."""
        known = self._begins.get(day)
        if known is None:
            midnight = beginning_of_day(date.fromordinal(day), self._zone)
            known = self._begins[day] = milliseconds(midnight)
        return known

    def _offsets_of(self, utc_day: int) -> tuple[int, int, int]:
        """Return the offset from UTC, when it changes within a UTC day, and the offset then."""
        start, end = utc_day * MILLISECONDS_A_DAY, (utc_day + 1) * MILLISECONDS_A_DAY
        before, after = self._offset(start), self._offset(end)
        low, high = start, end
        while before != after and high - low > 1_000:
            middle = (low + high) // 2_000 * 1_000
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return before, high, after

    def _offset(self, moment: int) -> int:
        offset = (_EPOCH + timedelta(milliseconds=moment)).astimezone(self._zone).utcoffset()
        return 0 if offset is None else offset // _MILLISECOND
