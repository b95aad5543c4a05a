"""Numbers and times as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

NONE = "–"


def money(amount: float | None) -> str:
    """Return an amount with its cents; a dash for none."""
    if amount is None:
        return NONE
    text = f"{abs(amount):,.2f}"
    return f"−{text}" if amount < 0 and text != "0.00" else text


def rounded(amount: float | None) -> str:
    """Return an amount in whole units."""
    if amount is None:
        return NONE
    text = f"{abs(amount):,.0f}"
    return f"−{text}" if amount < 0 and text != "0" else text


def signed(amount: float) -> str:
    """Return a difference with its sign."""
    return f"+{money(amount)}" if round(amount, 2) > 0 else money(amount)


def count(number: float) -> str:
    """Return a whole number."""
    return f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Return how many a second: a tenth where there are few; a dash for none."""
    if number is None:
        return NONE
    if 0 < number < 0.1:
        return "< 0.1"
    return f"{number:.1f}" if 0 < number < 10 else count(number)


def share(probability: float | None) -> str:
    """Return a probability in percent; a dash for none."""
    return NONE if probability is None else f"{100 * probability:.1f} %"


class Times:
    """Days and times in the shop's time zone."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)

    def day(self, moment: datetime | str | int | None) -> str:
        """Return the day of a moment; a whole number is one of milliseconds since 1970."""
        return NONE if moment is None else f"{self._local(moment):%Y-%m-%d}"

    def time(self, moment: datetime | str | int | None) -> str:
        """Return day and time of a moment."""
        return NONE if moment is None else f"{self._local(moment):%Y-%m-%d %H:%M:%S}"

    def _local(self, moment: datetime | str | int) -> datetime:
        if isinstance(moment, int):
            moment = datetime.fromtimestamp(moment / 1000, UTC)
        elif isinstance(moment, str):
            moment = datetime.fromisoformat(moment)
        return moment.astimezone(self._zone)


def filters(zone: str) -> dict[str, Any]:
    """Return these functions by their names in templates."""
    times = Times(zone)
    return {
        "money": money, "rounded": rounded, "signed": signed, "count": count, "rate": rate,
        "share": share,
        "day": times.day, "time": times.time,
    }  # fmt: skip
