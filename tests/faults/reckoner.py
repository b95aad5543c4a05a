"""What every customer must come to, from the published bytes alone.

Written anew from the documented rules, as sets of events with no stream in sight, without a line of
the program that it is compared with: two mistakes would have to be the same to go unseen. Only of
histories longer than what is remembered does the order count, in which they were published.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple

from tests.faults.published import (
    CHANNELS,
    DAY_MS,
    UNIT,
    Event,
    PublishedRecord,
    Refusal,
    Refused,
    Terms,
    check_acceptable,
    check_topic,
    milliseconds,
    read_event,
)
from tests.faults.remembered import Outcome, is_long, sift

NOTHING = Decimal(-1)
"""Stands for an amount that was not told: less than any that was."""

BEYOND_MEMORY = "beyond-memory"

OrderName = tuple[str, str, str]
"""The person, the source, and the order's id there."""

KEPT_HEADERS = 10_000
"""That a dead letter keeps of a record."""

LARGEST_SENT_ON = 1_000_000
"""Bytes of a record under another key than its customer's."""


@dataclass
class Reckoning:
    """What one customer must come to; money in the shop's currency, exact.

    The last evaluation is as of a time between `last_event` (the latest event that counts in any
    order of arrival) and `latest_event` (the latest of all).
    """

    orders: int = 0
    purchase_days: int = 0
    gross: Decimal = Decimal(0)
    refunds: int = 0
    refunded: Decimal = Decimal(0)
    contacts: int = 0
    complaints: int = 0
    margin: Decimal = Decimal(0)
    acquisition_cost: Decimal = Decimal(0)
    cost_to_serve: Decimal = Decimal(0)
    last_event: int = 0
    latest_event: int = 0
    rounding: Decimal = Decimal(0)
    """By how much money may differ: sums of compacted entries are converted once, not each."""

    @property
    def events(self) -> int:
        """What is lost when all of the customer is."""
        return max(self.orders + self.refunds + self.contacts, 1)


@dataclass
class Expected:
    """What must be found after everything published was worked on.

    refused: how many times each refusal must be found at least. optional: refusals that may be
    found or not. accepted: values of which no other refusal may be found. erased: ids that must be
    found nowhere. merged: ids that went into another, and must have no value of their own. long:
    customers with more of a kind than is remembered. refunded_beyond: orders, by person, source and
    id, of which a notice must say that their refunds exceed the total; those of
    `perhaps_refunded_beyond` may have one, as it depends on the order of arrival.
    """

    terms: Terms
    run_id: str = ""
    customers: dict[str, Reckoning] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)
    optional: set[Refusal] = field(default_factory=set)
    accepted: set[bytes] = field(default_factory=set)
    long: set[str] = field(default_factory=set)
    refunded_beyond: set[OrderName] = field(default_factory=set)
    perhaps_refunded_beyond: set[OrderName] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)
    """Erased at some time, whether or not they came back."""
    merged: dict[str, str] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """What the ids of this run's customers begin with, and nobody else's."""
        return f"{self.run_id}-" if self.run_id else ""


class _Accepted(NamedTuple):
    """An event that can be accepted, and how it would look among the dead letters."""

    event: Event
    refusal: Refusal


def reckon(
    records: Iterable[PublishedRecord], terms: Terms, now: datetime, run_id: str = ""
) -> Expected:
    """What these records must lead to.

    records: in the order in which they were published; it counts for customers with long histories
    only. now: when they arrive, within an hour or so; it decides only which ones lie in the future.
    run_id: what all customers of these records begin with, where others share the service.

    Raises
    ------
    Undecided
        for a long history of which the documented rules do not say what it comes to.
    ValueError
        for merges in a circle, and for a long history of somebody who is merged or erased.
    """
    expected = Expected(terms, run_id)
    accepted: list[_Accepted] = []
    latest = milliseconds(now) + DAY_MS
    for record in records:
        value = record.value or b""
        key, headers = record.key, tuple(record.headers[:KEPT_HEADERS])
        try:
            event = read_event(key, value, record.headers)
            check_topic(event, record.topic)
            if key != event.customer.encode() and _size(record) > LARGEST_SENT_ON:
                raise Refused("too-large")
            check_acceptable(event, terms, latest)
        except Refused as refused:
            expected.refused[Refusal(key, value, headers, str(refused))] += 1
        else:
            accepted.append(_Accepted(event, Refusal(key, value, headers, BEYOND_MEMORY)))
    events = _remembered(expected, accepted)
    _settle_identities(expected, events)
    _notice_refunds(expected, [each.event for each in accepted])
    return expected


def _size(record: PublishedRecord) -> int:
    """Bytes of a record as it is encoded, but for some of its head; a header has two lengths."""
    headers = sum(2 + len(name) + len(content or b"") for name, content in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def _remembered(expected: Expected, accepted: list[_Accepted]) -> list[Event]:
    """The events without those of long histories that are not counted, which are noted."""
    by_customer: defaultdict[str, list[_Accepted]] = defaultdict(list)
    for each in accepted:
        by_customer[each.event.customer].append(each)
    events: list[Event] = []
    counted: set[Refusal] = set()
    for customer, those in by_customer.items():
        own = [each.event for each in those]
        if is_long(own):
            expected.long.add(customer)
            outcomes = sift(own)
        else:
            outcomes = [Outcome.ACCEPTED] * len(own)
        for (event, refusal), outcome in zip(those, outcomes, strict=True):
            if outcome is Outcome.ACCEPTED:
                events.append(event)
                counted.add(refusal)
                expected.accepted.add(refusal.value)
            elif outcome is Outcome.REFUSED:
                expected.refused[refusal] += 1
            else:
                expected.optional.add(refusal)
    if unclear := expected.optional & counted:
        raise ValueError(
            f"{min(unclear).value!r} is published again as it was when it is no longer remembered: "
            "nothing would tell its letter from one for what was accepted"
        )
    return events


def _settle_identities(expected: Expected, events: list[Event]) -> None:
    into = {e.data["merged_from"]: e.customer for e in events if e.kind == "customer.merged"}
    for name in into:
        expected.merged[name] = _resolve(name, into)
    erased_at: dict[str, int] = {}
    for event in events:
        if event.kind == "customer.erased":
            person = _resolve(event.customer, into)
            erased_at[person] = max(erased_at.get(person, -1), event.time)
    lives: defaultdict[str, list[Event]] = defaultdict(list)
    latest: dict[str, int] = {}
    long: set[str] = {_resolve(name, into) for name in expected.long}
    for event in events:
        person = _resolve(event.customer, into)
        latest[person] = max(latest.get(person, 0), event.time)
        if event.kind.startswith("customer.") and event.kind != "customer.acquired":
            if person in long:
                raise ValueError(f"{person} has a long history, and is merged or erased")
            continue
        if event.time > erased_at.get(person, -1):
            lives[person].append(event)
    expected.customers = {person: tally(life, expected.terms) for person, life in lives.items()}
    for person, reckoning in expected.customers.items():
        reckoning.latest_event = latest[person]
        if person in long:
            reckoning.rounding = UNIT * len(lives[person])
    for person in set(into.values()) & lives.keys():
        if is_long(lives[person]):
            raise ValueError(f"{person} has a long history together with those who were merged")
    members = {name: _resolve(name, into) for name in (*into, *erased_at)}
    expected.forgotten = {name for name, person in members.items() if person in erased_at}
    expected.erased = {name for name in expected.forgotten if members[name] not in lives}


def _notice_refunds(expected: Expected, events: list[Event]) -> None:
    """Find the orders whose refunds come to more than their total, or may do so on the way."""
    totals: defaultdict[OrderName, dict[tuple[Any, ...], Event]] = defaultdict(dict)
    refunds: defaultdict[OrderName, dict[str, tuple[int, Decimal, str]]] = defaultdict(dict)
    cancelled: set[OrderName] = set()
    for event in events:
        order, data = event.data.get("order_id"), event.data
        if order is None:
            continue
        name = expected.merged.get(event.customer, event.customer), event.source, order
        if event.kind == "order.placed":
            rank = data.get("revision") or 0, event.time, Decimal(data["total"])
            totals[name][rank] = event
        elif event.kind == "order.cancelled":
            cancelled.add(name)
        else:
            refund = event.time, Decimal(data["amount"]), data["currency"]
            refunds[name][data["refund_id"]] = refund
    mixed = (
        expected.forgotten | expected.long | expected.merged.keys() | {*expected.merged.values()}
    )
    for name in totals.keys() & refunds.keys():
        versions = [each.data for each in totals[name].values()]
        if any(
            _sum(refunds[name].values(), each["currency"]) > Decimal(each["total"])
            for each in versions
        ):
            expected.perhaps_refunded_beyond.add(name)
        last = totals[name][max(totals[name])].data
        beyond = _sum(refunds[name].values(), last["currency"]) > Decimal(last["total"])
        if beyond and name not in cancelled and name[0] not in mixed:
            expected.refunded_beyond.add(name)


def _sum(refunds: Iterable[tuple[int, Decimal, str]], currency: str) -> Decimal:
    return sum((amount for _, amount, code in refunds if code == currency), Decimal(0))


def _resolve(name: str, into: Mapping[str, str]) -> str:
    seen = {name}
    while name in into:
        name = into[name]
        if name in seen:
            raise ValueError(f"the merges of {name!r} go in a circle; nothing says who stays")
        seen.add(name)
    return name


def tally(events: Iterable[Event], terms: Terms) -> Reckoning:
    """Add up one customer's events, in whatever order and how often they come."""
    orders: dict[tuple[str, str], tuple[Any, ...]] = {}
    refunds: dict[tuple[str, str], tuple[Any, ...]] = {}
    opened: dict[tuple[str, str], tuple[Any, ...]] = {}
    resolved: dict[tuple[str, str], tuple[Any, ...]] = {}
    surveys: dict[str, tuple[Any, ...]] = {}
    acquired: dict[str, tuple[Any, ...]] = {}
    cancelled: dict[tuple[str, str], int] = {}
    rated: dict[tuple[str, str], int] = {}
    for event in events:
        data, time, source = event.data, event.time, event.source
        match event.kind:
            case "order.placed":
                revision = data.get("revision") or 0
                content = (_money(data, "total", terms), _money(data, "cost_of_goods", terms))
                _newest(orders, (source, data["order_id"]), (revision, time, *content))
            case "order.cancelled":
                order = source, data["order_id"]
                cancelled[order] = max(cancelled.get(order, time), time)
            case "order.refunded":
                content = (
                    data.get("order_id") or "",
                    _money(data, "amount", terms),
                    _money(data, "cost_recovered", terms),
                )
                _newest(refunds, (source, data["refund_id"]), (time, *content))
            case "ticket.opened":
                complaint = bool(data.get("complaint")) or data.get("topic") in (
                    terms.complaint_topics
                )
                part = (time, CHANNELS.index(data["channel"]), complaint)
                _newest(opened, (source, data["ticket_id"]), part)
            case "ticket.resolved":
                minutes = data.get("handling_minutes")
                told = NOTHING if minutes is None else _tenths(minutes)
                part = (time, _money(data, "cost", terms), told)
                _newest(resolved, (source, data["ticket_id"]), part)
            case "ticket.rated":
                ticket = source, data["ticket_id"]
                rated[ticket] = max(rated.get(ticket, 0), time)
            case "survey.answered":
                _newest(surveys, data["kind"], (time,))
            case "customer.acquired":
                _newest(acquired, data["customer_id"], (time, _money(data, "cost", terms)))
    result = Reckoning()
    # Placed again by a later word (here: dated later) than its cancellation, an order counts.
    void = {n for n, at in cancelled.items() if n not in orders or orders[n][1] <= at}
    standing = [order for name, order in orders.items() if name not in void]
    result.orders = len(standing)
    result.purchase_days = len({time // DAY_MS for _, time, _, _ in standing})
    result.gross = sum((gross for _, _, gross, _ in standing), Decimal(0))
    earned = sum((gross - cost for _, _, gross, cost in standing if cost >= 0), Decimal(0))
    uncosted = sum((gross for _, _, gross, cost in standing if cost < 0), Decimal(0))
    # A refund names an order of its own source; one without an order is a credit.
    named = [((source, refund[1]), refund) for (source, _), refund in refunds.items()]
    valid = [(order, refund) for order, refund in named if order not in void]
    result.refunds = len(valid)
    result.refunded = sum((amount for _, (_, _, amount, _) in valid), Decimal(0))
    recovered = sum((_recovered(r, orders.get(order), terms) for order, r in valid), Decimal(0))
    earned += (uncosted * terms.margin).quantize(UNIT, ROUND_FLOOR)
    result.margin = earned - result.refunded + recovered
    tickets = opened.keys() | resolved.keys() | rated.keys()
    result.contacts = len(tickets)
    result.complaints = sum(1 for _, _, complaint in opened.values() if complaint)
    result.cost_to_serve = sum(
        (_contact_cost(opened.get(t), resolved.get(t), terms) for t in tickets), Decimal(0)
    )
    result.acquisition_cost = sum((cost for _, cost in acquired.values()), Decimal(0))
    times = [time for _, time, _, _ in orders.values()]
    times += [*cancelled.values(), *rated.values()]
    for newest in (refunds, opened, resolved, surveys, acquired):
        times += [register[0] for register in newest.values()]
    result.last_event = max(times, default=0)
    return result


def _recovered(refund: tuple[Any, ...], order: tuple[Any, ...] | None, terms: Terms) -> Decimal:
    """The cost of what came back: as told, up to that of the order; else the share refunded."""
    _, name, amount, told = refund
    cost = NOTHING if order is None else order[3]
    if told >= 0:
        return Decimal(min(told, amount if cost < 0 else cost))
    if not name:
        return Decimal(0)
    if order is None or cost < 0:
        return Decimal(amount - (amount * terms.margin).quantize(UNIT, ROUND_FLOOR))
    if amount >= order[2]:
        return Decimal(cost)
    return Decimal(cost * amount / order[2]).quantize(UNIT, ROUND_FLOOR)


def _newest(registers: dict[Any, tuple[Any, ...]], name: Any, incoming: tuple[Any, ...]) -> None:
    held = registers.get(name)
    if held is None or incoming > held:
        registers[name] = incoming


def _contact_cost(
    opened: tuple[Any, ...] | None, resolved: tuple[Any, ...] | None, terms: Terms
) -> Decimal:
    """As told; else by its minutes; else by its channel."""
    if resolved is not None:
        _, cost, tenths = resolved
        if cost >= 0:
            return Decimal(cost)
        if tenths >= 0:
            return (tenths * terms.cost_of_a_minute / 10).quantize(UNIT, ROUND_FLOOR)
    return terms.contact_costs["unknown" if opened is None else CHANNELS[opened[1]]]


def _tenths(minutes: float) -> Decimal:
    return (Decimal(str(minutes)) * 10).quantize(Decimal(1), ROUND_HALF_EVEN)


def _money(data: Mapping[str, Any], name: str, terms: Terms) -> Decimal:
    amount = data.get(name)
    return NOTHING if amount is None else terms.convert(amount, data["currency"])
