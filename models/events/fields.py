"""Field types of the input contracts, each with its words for refusals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from models.currencies import NUMBERS

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""Upper limit of times, a year short of `datetime.max`, so that adding to them cannot overflow."""

_FRACTION_DIGITS = 4

# Portable between the regular expressions of Rust, Python and JavaScript, for JSON Schema.
_NO_CONTROL = r"[^\x00-\x1f\x7f-\x9f]*"
_TEXT_PATTERN = rf"^{_NO_CONTROL}[^\s\x00-\x1f\x7f-\x9f]{_NO_CONTROL}$"
_MONEY_PATTERN = r"^[0-9]{1,14}(\.[0-9]{1,4})?$"
_TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)


_LEAP_SECOND = re.compile(r"(.{17})60(?:\.[0-9]+)?([Zz]|[+-].*)")


@dataclass(frozen=True)
class Allowed:
    """What a field accepts, in words, for refusals and the JSON Schema."""

    words: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Wrap the field's schema, so that its errors have these words."""
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="not_allowed", custom_error_message=self.words
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Add the words as the field's description."""
        return {**handler(schema), "description": self.words}


class _Rfc3339:
    """Reads RFC 3339 text, and in Python also aware datetimes; never a number, never naive."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # The pattern comes first because pydantic reads text of digits alone as a Unix time.
        from_text = core_schema.chain_schema(
            [
                core_schema.str_schema(strict=True, pattern=_TIME_PATTERN),
                core_schema.datetime_schema(strict=False, ge=EARLIEST, lt=LATEST),
            ]
        )
        # datetime knows no leap second: it counts as the last microsecond of its minute.
        from_leap_second = core_schema.no_info_before_validator_function(_before_leap, from_text)
        from_any_text = core_schema.union_schema(
            [from_text, from_leap_second], mode="left_to_right"
        )
        from_datetime = core_schema.datetime_schema(
            strict=True, ge=EARLIEST, lt=LATEST, tz_constraint="aware"
        )
        return core_schema.json_or_python_schema(
            json_schema=from_any_text,
            python_schema=core_schema.union_schema(
                [from_datetime, from_any_text], mode="left_to_right"
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "format": "date-time", "pattern": _TIME_PATTERN}


def _before_leap(text: Any) -> Any:
    found = _LEAP_SECOND.fullmatch(text) if isinstance(text, str) else None
    return text if found is None else f"{found[1]}59.999999{found[2]}"


class _Iso4217:
    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: Any, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.literal_schema(sorted(NUMBERS))


Id = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=200, pattern=_TEXT_PATTERN),
    Allowed("text of 1 to 200 characters, not only white space, without control characters"),
]
"""Identifies something: a customer, an order, a ticket, an event, a source."""

Label = Id
"""Names something in the publisher's words: a channel, a topic, a campaign, a SKU."""

MoneyText = Annotated[
    str,
    StringConstraints(strict=True, pattern=_MONEY_PATTERN),
    Allowed(
        'decimal text in quotes such as "139.12", not negative, '
        "at most 14 digits before the point and 4 after it"
    ),
]
"""Money as decimal text; `money_units` turns it into whole ten-thousandths."""

CurrencyCode = Annotated[
    str, _Iso4217, Allowed('an ISO 4217 currency code such as "EUR", in capitals')
]

Time = Annotated[
    datetime,
    _Rfc3339,
    Allowed(
        'RFC 3339 text with an offset such as "2026-01-03T10:00:00Z", '
        "from 1970 to the end of the year 9998"
    ),
]
"""An aware datetime; fractions of a second beyond the microsecond are cut off."""

Number = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=-1_000_000, le=1_000_000),
    Allowed("a number from -1000000 to 1000000, not in quotes"),
]
"""Finite, and bounded so that differences and ratios of two of them stay finite."""

Score = Number
"""A rating, to be read against its scale."""

Amount = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=0, le=1_000_000),
    Allowed("a number from 0 to 1000000, not in quotes"),
]
"""How much of something, such as minutes or pieces."""

Revision = Annotated[
    int,
    Field(strict=True, ge=0, le=2**63 - 1),
    Allowed("a whole number from 0 to 9223372036854775807, not in quotes"),
]


class Contract(BaseModel):
    """What another system sends us: frozen and strict, nothing is converted.

    Fields we do not know are ignored, so that publishers can add fields without asking. The
    docstring of a field is its description in the JSON Schema.
    """

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", use_attribute_docstrings=True
    )


class EventData(Contract):
    """The `data` of an event: which customer it belongs to, and when it happened."""

    time_field: ClassVar[str]
    """The field that says when it happened."""

    customer_id: Id | None = None

    @property
    def occurred_at(self) -> datetime:
        """When it happened, by the publisher's clock."""
        moment: datetime = getattr(self, self.time_field)
        return moment


def money_units(text: str) -> int:
    """Convert a valid `MoneyText` to whole ten-thousandths: "139.12" is 1391200."""
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(_FRACTION_DIGITS, "0"))


def money_text(units: int) -> str:
    """Return whole ten-thousandths as decimal text, with two or more digits after the point."""
    whole, fraction = divmod(units, 10**_FRACTION_DIGITS)
    digits = f"{fraction:0{_FRACTION_DIGITS}d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"
