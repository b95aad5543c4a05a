"""Cells of a file become times, amounts and texts."""

import re
from datetime import date, datetime, time, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import NamedTuple

from models.currencies import NUMBERS

NOON = time(12)
"""The time of day of a bare date: it stays on its day in every zone within 11 hours."""

GROUPED = re.compile(r"(-?)(\d{1,3}(?:[. \u00a0\u202f]\d{3})+|\d+)(?:,(\d+))?", re.ASCII)
"""An amount with a decimal comma, and thousands apart by points or spaces."""

BROKEN = re.compile(r"#(N/A|VALUE!|REF!|DIV/0!|NAME\?|NULL!|NUM!)", re.ASCII)
ROUNDED = re.compile(r"\d([.,]\d+)?E\+\d+", re.ASCII)
"""A long number as Excel shows it: other digits than these are lost."""

PLAIN_AMOUNT = re.compile(r"\d{1,14}(\.\d{1,4})?", re.ASCII)
LARGEST_AMOUNT = Decimal("99999999999999.9999")
TEN_THOUSANDTH = Decimal("0.0001")
APART = re.compile(r"(\d) +([+-]\d\d:?\d\d|Z)$", re.ASCII)
"""An offset that is set apart from its time."""

DAY_LENGTH = len("1997-01-01")


class Amount(NamedTuple):
    """Money without its sign; the text is None when there is none."""

    text: str | None
    negative: bool

    def signed(self) -> Decimal:
        """Return it as a number; 0 when there is none."""
        number = Decimal(self.text or 0)
        return -number if self.negative else number


def parse_time(value: object, zone: tzinfo) -> datetime:
    """Return the time with an offset; a bare date is noon, and a naive time is local, in `zone`.

    Reads ISO 8601 text, also with a space before the offset, datetime and date. Raises ValueError
    for anything else.
    """
    if isinstance(value, str):
        text = value.strip()
        try:
            kind = date if len(text) <= DAY_LENGTH else datetime
            value = kind.fromisoformat(text)
        except ValueError:
            value = _with_offset_apart(text)
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=zone)
    if isinstance(value, date):
        return datetime.combine(value, NOON, zone)
    raise ValueError("write ISO 8601, such as 2026-01-31 or 2026-01-31T18:05:00+01:00")


def _with_offset_apart(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(APART.sub(r"\1\2", text)) if APART.search(text) else None
    except ValueError:
        return None


def parse_amount(value: object, comma: bool = False) -> Amount:
    """Return the amount as decimal text without its sign.

    Text with at most 4 decimals stays as written; more are rounded half to even. comma: a text has
    a decimal comma. Raises ValueError.
    """
    text = str(value).strip()
    if comma and isinstance(value, str):
        text = _with_point(text)
    if PLAIN_AMOUNT.fullmatch(text):
        return Amount(text, False)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or "_" in text:
        hint = "; if it has a decimal comma, add --decimal comma" if GROUPED.fullmatch(text) else ""
        raise ValueError(
            f"write a plain decimal, such as 1234.50, without currency or separators{hint}"
        )
    if abs(amount) > LARGEST_AMOUNT:
        raise ValueError("it has more than 14 digits before the point")
    if PLAIN_AMOUNT.fullmatch(text.removeprefix("-")):
        return Amount(text.removeprefix("-"), amount < 0)
    rounded = abs(amount).quantize(TEN_THOUSANDTH, ROUND_HALF_EVEN)
    return Amount(f"{rounded.normalize():f}", amount < 0)


def _with_point(text: str) -> str:
    """Return an amount that has a decimal comma with a decimal point."""
    found = GROUPED.fullmatch(text)
    if found is None:
        raise ValueError("with --decimal comma, write 1234,50 or 1.234,50, without currency")
    sign, whole, decimals = found.groups()
    digits = "".join(each for each in whole if each.isdigit())
    return f"{sign}{digits}.{decimals}" if decimals else f"{sign}{digits}"


def parse_id(value: object) -> str:
    """Return an id as text; raises ValueError for what a spreadsheet has made of one."""
    text = text_of(value)
    if text.startswith("#") and BROKEN.fullmatch(text):
        raise ValueError("an error of a spreadsheet's formula; correct the formula")
    if "E+" in text and isinstance(value, str) and ROUNDED.fullmatch(text):
        raise ValueError(
            "a number that a spreadsheet has shortened, so that digits are lost; format the column "
            "as text, and export again"
        )
    return text


def parse_currency(value: object) -> str:
    """Return the ISO 4217 code in capitals; raises ValueError when there is no such currency."""
    code = str(value).strip().upper()
    if code not in NUMBERS:
        raise ValueError("write an ISO 4217 code, such as EUR")
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
