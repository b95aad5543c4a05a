"""Cells of a file become times, amounts and texts."""

import re
from datetime import date, datetime, time, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import NamedTuple

from models.contracts.currencies import CURRENCIES

NOON = time(12)
"""The time of day of a bare date: it stays on its day in every zone within 11 hours."""

PLAIN_AMOUNT = re.compile(r"\d{1,9}(\.\d{1,4})?", re.ASCII)
LARGEST_AMOUNT = Decimal("999999999.9999")
TEN_THOUSANDTH = Decimal("0.0001")
DAY_LENGTH = len("1997-01-01")


class Amount(NamedTuple):
    """Money without its sign; the text is None when there is none."""

    text: str | None
    negative: bool


def parse_time(value: object, zone: tzinfo) -> datetime:
    """Return the time with an offset; a bare date is noon, and a naive time is local, in `zone`.

    Reads ISO 8601 text, datetime and date. Raises ValueError for anything else.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            value = (
                date.fromisoformat(text)
                if len(text) <= DAY_LENGTH
                else datetime.fromisoformat(text)
            )
        except ValueError:
            value = None
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=zone)
    if isinstance(value, date):
        return datetime.combine(value, NOON, zone)
    raise ValueError("write ISO 8601, such as 2026-01-31 or 2026-01-31T18:05:00+01:00")


def parse_amount(value: object) -> Amount:
    """Return the amount as decimal text without its sign.

    Text with at most 4 decimals stays as written; more are rounded half to even. Raises ValueError.
    """
    text = str(value).strip()
    if PLAIN_AMOUNT.fullmatch(text):
        return Amount(text, False)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or "_" in text:
        raise ValueError("write a plain decimal, such as 1234.50, without currency or separators")
    if abs(amount) > LARGEST_AMOUNT:
        raise ValueError("it has more than 9 digits before the point")
    if PLAIN_AMOUNT.fullmatch(text.removeprefix("-")):
        return Amount(text.removeprefix("-"), amount < 0)
    rounded = abs(amount).quantize(TEN_THOUSANDTH, ROUND_HALF_EVEN)
    return Amount(f"{rounded.normalize():f}", amount < 0)


def parse_currency(value: object) -> str:
    """Return the ISO 4217 code in capitals; raises ValueError when there is no such currency."""
    code = str(value).strip().upper()
    if code not in CURRENCIES:
        raise ValueError("write an ISO 4217 code in force, such as EUR")
    return code


def parse_revision(value: object) -> int:
    """Return the revision; raises ValueError when it is not a whole number from 0."""
    text = text_of(value)
    if not (text.isascii() and text.isdigit()):
        raise ValueError("write a whole number, 0 or greater")
    return int(text)


def text_of(value: object) -> str:
    """Return a cell as text; 17850 for the float 17850.0, which is how tables hold whole ids."""
    if isinstance(value, float | Decimal) and value % 1 == 0:
        return str(int(value))
    return str(value).strip()


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing: None, white space, or the NaN of tables."""
    if isinstance(value, str):
        return not value or value.isspace()
    return value is None or value != value  # noqa: PLR0124 - only NaN differs from itself
