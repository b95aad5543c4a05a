"""What the data sets lack: support, refunds, cancellations, acquisition costs, surveys, simulated.

Nothing here comes from the shops. The rates are plausible, not measured, and customers who complain
buy exactly as the data say: no effect of support on orders can be learnt from these events.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from random import Random
from typing import Any, NamedTuple, TypeVar

import msgspec

from models.contracts import TOPIC_OF_TYPE
from streams.datasets import rates
from streams.datasets.dataset import Dataset
from streams.files.outgoing import OutgoingEvent, cloud_event

CENT = Decimal("0.01")
Choice = TypeVar("Choice")


class PlacedOrder(NamedTuple):
    """The fields of an order that the simulation builds on; sorts by time."""

    placed_at: datetime
    source: str
    order_id: str
    total: Decimal
    currency: str


def simulated_events(
    orders: Iterable[OutgoingEvent], seed: int, until: datetime | None = None
) -> Iterator[OutgoingEvent]:
    """Return simulated events about `orders`, in order of time, none at `until` or later.

    Each customer has a random sequence made from `seed` and the customer id: the result is the same
    for any order of `orders`. Events other than orders, and orders without a customer, are passed
    over.

    The source of an event is "/simulated" and the source of its order. Refunds and cancellations
    are the exception: order ids are scoped by source, so they must have the source of the order,
    and are recognised by their event id, which starts with "simulated-" like every other.

    Holds all orders and all its events in memory: two seconds and 60 MB for CDNOW.
    """
    events: list[OutgoingEvent] = []
    for customer_id, placed in _by_customer(orders).items():
        placed.sort()
        rng = Random(f"{seed}:{customer_id}")  # noqa: S311 - a simulation, not a secret
        events += _acquisition(rng, customer_id, placed[0])
        for order in placed:
            events += _about(rng, customer_id, order)
    # The value decides between equal times, so that no iteration order shows.
    events.sort(key=lambda event: (event.time, event.value))
    return (event for event in events if until is None or event.time < until)


def with_simulation(dataset: Dataset, seed: int) -> Iterator[OutgoingEvent]:
    """Return the data set's events and simulated ones, in order of time, until its `as_of`."""
    simulated = simulated_events(dataset.events(), seed, dataset.as_of)
    return heapq.merge(dataset.events(), simulated, key=attrgetter("time"))


def _by_customer(orders: Iterable[OutgoingEvent]) -> dict[str, list[PlacedOrder]]:
    by_customer: dict[str, list[PlacedOrder]] = defaultdict(list)
    for event in orders:
        envelope = msgspec.json.decode(event.value)
        if event.key is None or envelope["type"] != "order.placed":
            continue
        data = envelope["data"]
        by_customer[event.key.decode()].append(
            PlacedOrder(
                event.time,
                envelope["source"],
                data["order_id"],
                Decimal(data["total"]),
                data["currency"],
            )
        )
    return by_customer


def _about(rng: Random, customer_id: str, order: PlacedOrder) -> Iterator[OutgoingEvent]:
    if rng.random() < rates.CANCELLED:
        yield _cancellation(rng, customer_id, order)
        return
    complaint = False
    if rng.random() < rates.TICKETS_PER_ORDER:
        complaint = rng.random() < rates.COMPLAINTS_PER_TICKET
        yield from _ticket(rng, customer_id, order, complaint)
    refund_rate = rates.REFUNDED_AFTER_COMPLAINT if complaint else rates.REFUNDED
    if rng.random() < refund_rate and order.total >= CENT:
        yield _refund(rng, customer_id, order)
    if rng.random() < rates.SURVEY_ANSWERED:
        yield _survey(rng, customer_id, order, complaint)


def _acquisition(rng: Random, customer_id: str, first: PlacedOrder) -> Iterator[OutgoingEvent]:
    if rng.random() >= rates.ACQUIRED_BY_PAID_CHANNEL:
        return
    acquired_at = first.placed_at - _days(rng, rates.ACQUIRED_BEFORE_ORDER_DAYS)
    data = {
        "customer_id": customer_id,
        "acquired_at": acquired_at,
        "cost": _money(_lognormal(rng, rates.ACQUISITION_COST)),
        "currency": first.currency,
        "channel": _pick(rng, rates.ACQUISITION_CHANNELS),
    }
    yield _event("customer.acquired", f"acquired-{customer_id}", first, acquired_at, data)


def _cancellation(rng: Random, customer_id: str, order: PlacedOrder) -> OutgoingEvent:
    cancelled_at = order.placed_at + _hours(rng.uniform(*rates.CANCELLED_AFTER_HOURS))
    data = {"order_id": order.order_id, "customer_id": customer_id, "cancelled_at": cancelled_at}
    return _event("order.cancelled", f"cancelled-{order.order_id}", order, cancelled_at, data)


def _refund(rng: Random, customer_id: str, order: PlacedOrder) -> OutgoingEvent:
    refunded_at = order.placed_at + _hours(24 * rng.uniform(*rates.REFUNDED_AFTER_DAYS))
    full = rng.random() < rates.FULL_REFUND
    share = Decimal(1) if full else Decimal(str(rng.uniform(*rates.PARTIAL_REFUND_SHARE)))
    amount = order.total if full else max(CENT, (order.total * share).quantize(CENT))
    refund_id = f"refund-{order.order_id}"
    data = {
        "refund_id": f"simulated-{refund_id}",
        "order_id": order.order_id,
        "customer_id": customer_id,
        "currency": order.currency,
        "amount": f"{amount:f}",
        "refunded_at": refunded_at,
    }
    if full:
        data["cost_recovered"] = _money(float(amount) * rates.COST_RECOVERED_SHARE)
    return _event("order.refunded", refund_id, order, refunded_at, data)


def _ticket(
    rng: Random, customer_id: str, order: PlacedOrder, complaint: bool
) -> Iterator[OutgoingEvent]:
    ticket_id = f"ticket-{order.order_id}"
    whose = {"ticket_id": f"simulated-{ticket_id}", "customer_id": customer_id}

    def event(what: str, at: datetime, data: dict[str, object]) -> OutgoingEvent:
        data = {**whose, f"{what}_at": at, **data}
        return _event(f"ticket.{what}", f"{ticket_id}-{what}", order, at, data)

    channel = _pick(rng, rates.TICKET_CHANNELS)
    topics = rates.COMPLAINT_TOPICS if complaint else rates.QUESTION_TOPICS
    priorities = rates.COMPLAINT_PRIORITIES if complaint else rates.QUESTION_PRIORITIES
    opened_at = order.placed_at + _days(rng, rates.TICKET_AFTER_DAYS)
    opened: dict[str, object] = {
        "channel": channel,
        "topic": _pick(rng, topics),
        "priority": _pick(rng, priorities),
        "complaint": complaint,
    }
    yield event("opened", opened_at, opened)
    if rng.random() >= rates.RESOLVED:
        return
    resolved_at = opened_at + _hours(_lognormal(rng, rates.HOURS_TO_RESOLVE))
    minutes = round(_lognormal(rng, rates.HANDLING_MINUTES[channel]), 1)
    resolved: dict[str, object] = {"handling_minutes": minutes}
    if rng.random() < rates.DESK_STATES_COST:
        resolved |= {"cost": _money(minutes * rates.COST_PER_MINUTE), "currency": order.currency}
    yield event("resolved", resolved_at, resolved)
    if rng.random() >= rates.RATED:
        return
    scores = rates.COMPLAINT_SCORES if complaint else rates.QUESTION_SCORES
    rated: dict[str, object] = {"score": _pick(rng, scores), "scale": {"min": 1, "max": 5}}
    yield event("rated", resolved_at + _days(rng, rates.RATED_AFTER_DAYS), rated)


def _survey(rng: Random, customer_id: str, order: PlacedOrder, complaint: bool) -> OutgoingEvent:
    kind = _pick(rng, rates.SURVEY_KINDS)
    low, high = rates.SURVEY_SCALES[kind]
    mean = rates.SURVEY_MEAN_AFTER_COMPLAINT if complaint else rates.SURVEY_MEAN
    share = min(1.0, max(0.0, rng.gauss(mean, rates.SURVEY_SPREAD)))
    answered_at = order.placed_at + _hours(24 * rng.uniform(*rates.SURVEY_AFTER_DAYS))
    survey_id = f"survey-{order.order_id}"
    data = {
        "survey_id": f"simulated-{survey_id}",
        "customer_id": customer_id,
        "answered_at": answered_at,
        "kind": kind,
        "score": low + round(share * (high - low)),
        "scale": {"min": low, "max": high},
    }
    return _event("survey.answered", survey_id, order, answered_at, data)


def _event(
    event_type: str, name: str, order: PlacedOrder, time: datetime, data: Mapping[str, Any]
) -> OutgoingEvent:
    """An event that follows from an order; data: with its customer."""
    topic = TOPIC_OF_TYPE[event_type]
    simulated = f"/simulated/{order.source.lstrip('/')}"
    return cloud_event(
        topic,
        event_type,
        source=order.source if topic == "orders" else simulated,
        event_id=f"simulated-{name}",
        time=time,
        data=data,
        customer_id=data["customer_id"],
    )


def _pick(rng: Random, weights: Mapping[Choice, float]) -> Choice:
    return rng.choices(list(weights), list(weights.values()))[0]


def _lognormal(rng: Random, median_and_spread: tuple[float, float]) -> float:
    median, spread = median_and_spread
    return rng.lognormvariate(math.log(median), spread)


def _hours(hours: float) -> timedelta:
    return timedelta(seconds=round(hours * 3600))


def _days(rng: Random, mean: float) -> timedelta:
    return _hours(24 * rng.expovariate(1 / mean))


def _money(amount: float) -> str:
    return f"{amount:.2f}"
