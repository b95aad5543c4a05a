"""Exchange rates by day, as a central bank publishes them."""

from __future__ import annotations

import csv
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Final

from models.currencies import NUMBERS
from models.errors import ClvError

MOST_DAYS_OLD: Final = 7
"""A rate holds until the next one, but at most so many days: banks publish none on holidays."""


class InvalidRates(ClvError):
    """A table of rates cannot be read; the text says where."""


@dataclass(frozen=True)
class DailyRates:
    """Units of each currency per one unit of the base, by day.

    days: ordinals in ascending order. rates: for each currency one rate a day, None without one.
    file: where they were read, for people.
    """

    base: str
    days: tuple[int, ...]
    rates: Mapping[str, tuple[Decimal | None, ...]]
    file: str = ""

    def knows(self, currency: str) -> bool:
        """Return whether there is a rate of the currency on any day."""
        return currency == self.base or currency in self.rates

    def rate(self, currency: str, into: str, day: int) -> Decimal | None:
        """Return units of `into` per one unit of a currency on a day; None if it is not known."""
        from_rate, into_rate = self._per_base(currency, day), self._per_base(into, day)
        return None if from_rate is None or into_rate is None else into_rate / from_rate

    def _per_base(self, currency: str, day: int) -> Decimal | None:
        if currency == self.base:
            return Decimal(1)
        column = self.rates.get(currency)
        if column is None:
            return None
        number = bisect_right(self.days, day) - 1
        while number >= 0 and day - self.days[number] <= MOST_DAYS_OLD:
            rate = column[number]
            if rate is not None:
                return rate
            number -= 1
        return None


def read_ecb(lines: Iterable[str], base: str = "EUR") -> DailyRates:
    """Read rates in the format of the European Central Bank's history (eurofxref-hist.csv).

    The first line is "Date,USD,JPY,…"; each other line has a day such as 2026-01-02 and the units
    of each currency per one unit of the base, "N/A" where there is none. The order is free.

    Raises
    ------
    InvalidRates
        if a line is not of this form.
    """
    rows = csv.reader(lines)
    head = [name.strip() for name in next(rows, [])]
    if head[:1] != ["Date"]:
        raise InvalidRates(f"line 1 of the rates begins with {head[:1]}, not with Date")
    names = head[1:-1] if head[-1:] == [""] else head[1:]
    unknown = [name for name in names if name not in NUMBERS]
    if unknown:
        raise InvalidRates(f"line 1 of the rates has {unknown[0]!r}, not an ISO 4217 currency code")
    by_day: dict[int, list[Decimal | None]] = {}
    for row in rows:
        if not any(row):
            continue
        try:
            day = date.fromisoformat(row[0].strip()).toordinal()
            by_day[day] = [_rate(cell.strip()) for cell in row[1 : len(names) + 1]]
        except (ValueError, InvalidOperation) as error:
            raise InvalidRates(f"line {rows.line_num} of the rates: {error}") from None
        if len(by_day[day]) != len(names):
            raise InvalidRates(
                f"line {rows.line_num} of the rates has {len(row)} cells, not {len(names) + 1}"
            )
    days = sorted(by_day)
    columns = zip(*(by_day[day] for day in days), strict=True)
    return DailyRates(base, tuple(days), dict(zip(names, columns, strict=False)))


def _rate(cell: str) -> Decimal | None:
    if cell in ("N/A", ""):
        return None
    rate = Decimal(cell)
    if not rate.is_finite() or rate <= 0:
        raise ValueError(f"{cell} is not a rate")
    return rate
