"""What makes a well-formed event unacceptable to this shop, in words its publisher can act on."""

from __future__ import annotations

from models.aggregate.fold import milliseconds
from models.aggregate.join import MOST_ACQUISITIONS
from models.aggregate.versions import MOST_SUPERSEDED
from models.contracts import (
    CustomerAcquired,
    Envelope,
    EventData,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    Reason,
    Refused,
    TicketRated,
    TicketResolved,
    money_units,
)
from models.economics import MILLISECONDS_A_DAY, MONEY_SCALE, Economics

FUTURE_TOLERANCE = MILLISECONDS_A_DAY
"""How far ahead of its arrival an event may claim to have happened: clocks differ."""

ERASURE_TOLERANCE = 60_000
"""How far ahead of its arrival an erasure may be dated, in milliseconds; it reaches no further."""

LARGEST_AMOUNT = 10_000_000_000
"""In the reporting currency, after conversion; sums of such amounts stay within 64 bits."""

_MONEY_FIELDS = ("total", "cost_of_goods", "amount", "cost_recovered", "cost")


def check_acceptable(event: Envelope, arrived: int, now: int, config: Economics) -> int:
    """When the event happened, in milliseconds since 1970; an erasure, at the latest on arrival.

    arrived: timestamp of the record; now: of the clock, for records that carry none.

    Raises
    ------
    Refused
        for a time in the future, or a currency without a rate.
    """
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
        # What happens from now on happens to a new customer.
        return min(occurred, latest)
    currency = getattr(data, "currency", None)
    if currency is not None and currency != config.currency:
        _check_convertible(data, currency, config)
    return occurred


def _check_convertible(data: EventData, currency: str, config: Economics) -> None:
    if not config.accepts(currency):
        raise Refused(
            Reason.NO_EXCHANGE_RATE,
            "data.currency",
            f"data.currency is {currency!r}, for which no rate to {config.currency} is configured; "
            f"send {config.currency}, or have the rate added to exchange_rates",
        )
    for name in _MONEY_FIELDS:
        amount = getattr(data, name, None)
        if amount is None:
            continue
        if config.convert(money_units(amount), currency) > LARGEST_AMOUNT * MONEY_SCALE:
            raise Refused(
                Reason.INVALID_FIELD,
                f"data.{name}",
                f"data.{name} is {amount!r} {currency}, more than {LARGEST_AMOUNT} "
                f"{config.currency}; check the amount and the currency",
            )


def too_old(event: Envelope, config: Economics) -> Refused:
    """The refusal of an event that is beyond what is remembered of its customer."""
    data: EventData = event.data
    most = config.remembered
    ordered = "send histories in the order of time, or raise the number remembered"
    moment = f"data.{data.time_field} is {data.occurred_at.isoformat()}"
    match data:
        case OrderCancelled():
            field = "order_id"
            words = (
                f"data.order_id is {data.order_id!r}, which is not among the last {most} orders of "
                "the customer, or had refunds that are no longer among the last; or as many "
                f"cancellations wait for their orders; publish order.placed first, and {ordered}"
            )
        case OrderRefunded():
            field = data.time_field
            words = (
                f"{moment}, not later than refunds that are no longer among the last {most} of the "
                f"customer; or data.order_id is {data.order_id!r}, of which nobody remembers "
                f"whether it was cancelled; {ordered}"
            )
        case TicketResolved() | TicketRated():
            field = "ticket_id"
            words = (
                f"data.ticket_id is {data.ticket_id!r}, which is not among the last {most} tickets "
                "of the customer and may be one that is counted already; publish ticket.opened "
                f"first, and {ordered}"
            )
        case CustomerAcquired():
            field = "customer_id"
            words = (
                f"data.customer_id is {data.customer_id!r}, and {MOST_ACQUISITIONS} other ids of "
                "the same customer have told what it cost to win them, which is as many as are "
                "remembered; check whether they are one customer"
            )
        case OrderPlaced():
            field = data.time_field
            words = (
                f"{moment}, not later than orders that are no longer among the last {most} of the "
                f"customer; or revisions moved the order back in time {MOST_SUPERSEDED} times "
                f"already; {ordered}"
            )
        case _:
            field = data.time_field
            words = (
                f"{moment}, not later than tickets that are no longer among the last {most} of the "
                f"customer; {ordered}"
            )
    return Refused(Reason.BEYOND_MEMORY, f"data.{field}", words)
