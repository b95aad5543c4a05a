"""Whether a stored state can be valued under the present currency, time zone and complaint topics.

Customers' entries are facts, which any settings can interpret. What was compacted was summed up by
days of the time zone, and by the topics of complaints, at that time; and earlier versions converted
amounts when they came.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Final

from models.aggregate.record import decode_record, is_customer
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.currencies import HOME
from models.economics import Economics, MissingRate
from streams.basis.findings import Finding, Kind
from streams.basis.record import Basis

_ANEW: Final = (
    "or compute everything anew: another CLV_APP_ID, with topics of its own, reads the events from "
    "the beginning"
)


def judge_interpretation(
    basis: Basis, states: Mapping[bytes, bytes], economics: Economics
) -> Iterator[Finding]:
    """Find what stands against changed settings in a partition's states."""
    currency, zone = basis.currency != economics.currency, basis.timezone != economics.timezone
    before, now = basis.complaint_topics, sorted(economics.complaint_topics)
    topics = before is not None and before != now
    if not (currency or zone or topics):
        return
    converted = by_days = by_topics = 0
    missing: MissingRate | None = None
    for key, data in states.items():
        if not is_customer(key):
            continue
        state = decode_record(data, key).aggregate
        converted += currency and has_converted_amounts(state, economics)
        by_days += zone and state.compacted is not None
        by_topics += topics and state.compacted is not None and state.compacted.contacts > 0
        if currency and missing is None:
            try:
                Summary(state, economics)
            except MissingRate as error:
                missing = error
    if converted:
        yield Finding(
            Kind.CURRENCY,
            "CLV_ECONOMICS__CURRENCY",
            f"amounts of {converted:,} customers were converted to {basis.currency} and summed up, "
            f"and the currency is {economics.currency} now",
            f"set CLV_ECONOMICS__CURRENCY={basis.currency}, {_ANEW}",
        )
    elif missing is not None:
        yield Finding(
            Kind.CURRENCY,
            "CLV_ECONOMICS__EXCHANGE_RATES",
            f"the currency is {economics.currency} now, and was {basis.currency}: {missing}",
            f"add the rate, or set CLV_ECONOMICS__CURRENCY={basis.currency}",
        )
    if by_days:
        yield Finding(
            Kind.TIMEZONE,
            "CLV_ECONOMICS__TIMEZONE",
            f"entries of {by_days:,} customers were summed up by days in {basis.timezone}, and the "
            f"time zone is {economics.timezone} now",
            f"set CLV_ECONOMICS__TIMEZONE={basis.timezone}, {_ANEW}",
        )
    if by_topics:
        yield Finding(
            Kind.COMPLAINT_TOPICS,
            "CLV_ECONOMICS__COMPLAINT_TOPICS",
            f"tickets of {by_topics:,} customers were summed up when complaints were tickets about "
            f"{before}, and they are those about {now} now",
            f"set CLV_ECONOMICS__COMPLAINT_TOPICS='{json.dumps(before)}', {_ANEW}",
        )


def has_converted_amounts(state: Aggregate, economics: Economics) -> bool:
    """Return whether a state holds amounts that were converted to a former reporting currency."""
    summed = {} if state.compacted is None else state.compacted.money
    if HOME in summed or (summed and economics.daily_rates is not None):
        return True
    currencies = {
        *(order.currency for order in state.orders.values()),
        *(refund.currency for refund in state.refunds.values()),
        *(acquisition.currency for acquisition in state.acquisitions.values()),
        *(
            ticket.resolved.currency
            for ticket in state.tickets.values()
            if ticket.resolved is not None and ticket.resolved.cost >= 0
        ),
    }
    return HOME in currencies
