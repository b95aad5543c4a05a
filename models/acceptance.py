"""Refuse well-formed events that this shop cannot accept.

They are dated ahead, in a currency without a rate, or have a placeholder in place of an id.
"""

from __future__ import annotations

from datetime import date

from models.calendar import MILLISECONDS_A_DAY, milliseconds
from models.contracts import Envelope, EventData, Reason, Refused, money_units
from models.currencies import NUMBERS, WITHDRAWN
from models.economics import MONEY_SCALE, Economics
from models.events.kinds import EVENTS
from models.placeholders import check_ids

FUTURE_TOLERANCE = MILLISECONDS_A_DAY
"""How far ahead of its arrival an event may claim to have happened: clocks differ."""

ERASURE_TOLERANCE = 60_000
"""How far ahead of its arrival an erasure may be dated, in milliseconds; it then counts as now."""

LARGEST_AMOUNT = 10**14
"""In the reporting currency, after conversion."""

_LARGEST_UNITS = LARGEST_AMOUNT * MONEY_SCALE


def check_acceptable(
    event: Envelope, customer: str, arrived: int, now: int, config: Economics
) -> int:
    """Return the event's time in milliseconds since 1970; an erasure is never later than arrival.

    customer: whose event it is. arrived: the record's timestamp. now: the clock's time, used when
    the record has no timestamp.

    Raises
    ------
    Refused
        if an id is a placeholder, the time lies in the future, or the currency has no exchange
        rate.
    """
    check_ids(event, customer, config.placeholder_ids)
    data: EventData = event.data
    occurred = milliseconds(data.occurred_at)
    latest = min(arrived, now) if arrived > 0 else now
    erasure = event.type == "customer.erased"
    if occurred > latest + (ERASURE_TOLERANCE if erasure else FUTURE_TOLERANCE):
        raise Refused(
            Reason.FUTURE,
            f"data.{data.time_field}",
            f"data.{data.time_field} is {data.occurred_at.isoformat()}, more than a "
            f"{'minute' if erasure else 'day'} after the event arrived; set the clock or the time "
            "zone right and send it again",
        )
    if erasure:
        # Events after the erasure belong to a new customer.
        return min(occurred, latest)
    currency = getattr(data, "currency", None)
    if currency is not None:
        _check_currency(event, currency, config.day(occurred), config)
    return occurred


def _check_currency(event: Envelope, currency: str, day: int, config: Economics) -> None:
    data = event.data
    withdrawn = WITHDRAWN.get(currency)
    if withdrawn is not None and day >= withdrawn.toordinal():
        raise Refused(
            Reason.INVALID_FIELD,
            "data.currency",
            f"data.currency is {currency!r}, which was withdrawn before {withdrawn}, and "
            f"data.{data.time_field} is {data.occurred_at.isoformat()}; check both",
        )
    if currency == config.currency:
        return
    if not config.accepts(currency, day):
        raise Refused(
            Reason.NO_EXCHANGE_RATE,
            "data.currency",
            f"data.currency is {currency!r}, for which no rate to {config.currency} on "
            f"{date.fromordinal(day)} is configured; send {config.currency}, or have the rate "
            "added to exchange_rates or to the file of rates, and retry",
        )
    for name in EVENTS[event.type].amounts:
        amount = getattr(data, name)
        if amount is None:
            continue
        if config.convert(money_units(amount), NUMBERS[currency], day) > _LARGEST_UNITS:
            raise Refused(
                Reason.INVALID_FIELD,
                f"data.{name}",
                f"data.{name} is {amount!r} {currency}, more than {LARGEST_AMOUNT} "
                f"{config.currency}; check the amount and the currency",
            )


def too_old(event: Envelope, config: Economics) -> Refused:
    """Return the refusal of an event at or before its customer's compaction boundary."""
    words = EVENTS[event.type].too_old
    if words is None:
        raise TypeError(f"{event.type} is never beyond what is remembered")
    field, detail = words(event.data, config)
    return Refused(Reason.BEYOND_MEMORY, f"data.{field}", detail)
