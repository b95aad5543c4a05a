"""Seeded or real events for the contenders."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Literal, NamedTuple

from models.economics import Economics
from streams.cli.sources import open_source
from streams.datasets import DATASETS

Role = Literal["orders", "support"]
HOT_CUSTOMERS = 2_000
SUPPORT_SHARE = 0.9
EVENTS_OF_A_CUSTOMER = 10
"""In `support`, in the mean."""

WARM_SHARE = 0.2
"""Of the events: read first, and not measured."""

START = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
SPAN_SECONDS = 730 * 86_400
HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]


class Event(NamedTuple):
    """A record for the topic of a role; timestamp: milliseconds since 1970."""

    role: Role
    key: bytes
    value: bytes
    timestamp: int


@dataclass(frozen=True)
class Kind:
    """A kind of workload.

    events: yields a number of them. warm: the share that is not measured. most: how many there are
    at all; None: as many as one likes.
    """

    title: str
    events: Callable[[int], Iterator[Event]]
    warm: float = WARM_SHARE
    most: int | None = None
    currency: str = "EUR"


def order(number: int, customer: bytes, seconds: float, rng: random.Random) -> Event:
    """Return an order of a customer at a time, in seconds since 1970."""
    cents = min(int(rng.lognormvariate(8.3, 0.6)), 10_000_000)
    return _event(
        "orders", f"order.placed {number}", customer, seconds,
        f'"order_id":"o{number}","placed_at":"{{time}}",'
        f'"currency":"EUR","total":"{cents // 100}.{cents % 100:02d}"',
    )  # fmt: skip


def ticket(number: int, customer: bytes, seconds: float, rng: random.Random) -> Event:
    """Return a ticket of a customer; one in ten is a complaint."""
    channel = rng.choice(("email", "phone", "chat"))
    complaint = "true" if rng.random() < 0.1 else "false"
    return _event(
        "support", f"ticket.opened {number}", customer, seconds,
        f'"ticket_id":"t{number}","opened_at":"{{time}}",'
        f'"channel":"{channel}","complaint":{complaint}',
    )  # fmt: skip


def _event(role: Role, name: str, customer: bytes, seconds: float, data: str) -> Event:
    """An event of a type; name: its type and, after a space, its number."""
    kind, number = name.split()
    time = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    value = (
        f'{{"specversion":"1.0","id":"e{number}","source":"/shop/eu","type":"{kind}",'
        f'"time":"{time}","datacontenttype":"application/json","data":{{'
        f'"customer_id":"{customer.decode()}",{data.replace("{time}", time)}}}}}'
    )
    return Event(role, customer, value.encode(), int(seconds * 1000))


def _spread(customers: Iterable[int], count: int, rng: random.Random) -> Iterator[Event]:
    """Orders of customers, one after the other; the times of `count` spread over two years."""
    for number, customer in enumerate(customers):
        yield order(number, b"c%07d" % customer, START + SPAN_SECONDS * number / count, rng)


def _new(count: int) -> Iterator[Event]:
    return _spread(range(count), count, random.Random(1))


def _known(count: int) -> Iterator[Event]:
    rng = random.Random(1)
    customers = list(range(count // 2))
    again = rng.sample(customers, len(customers))
    return _spread((*customers, *again), count, rng)


def _hot(count: int) -> Iterator[Event]:
    rng = random.Random(1)
    return _spread((rng.randrange(HOT_CUSTOMERS) for _ in range(count)), count, rng)


def _support(count: int) -> Iterator[Event]:
    rng = random.Random(1)
    customers = max(count // EVENTS_OF_A_CUSTOMER, 1)
    for number in range(count):
        make = ticket if rng.random() < SUPPORT_SHARE else order
        at = START + SPAN_SECONDS * number / count
        yield make(number, b"c%07d" % rng.randrange(customers), at, rng)


def _data_set(name: str) -> Callable[[int], Iterator[Event]]:
    def events(count: int) -> Iterator[Event]:
        source = open_source(name, Economics(currency=DATASETS[name].currency))
        # Orders without a customer are nobody's: the peers have no dead letters.
        known = (event for event in source.events() if event.key is not None)
        for event in islice(known, count):
            yield Event("orders", event.key, event.value, int(event.time.timestamp() * 1000))

    return events


WORKLOADS = {
    "new": Kind("each event a new customer", _new),
    "known": Kind("known customers, one event each", _known, warm=0.5),
    "hot": Kind("2,000 hot customers", _hot),
    "support": Kind("nine of ten events are tickets", _support),
    "cdnow": Kind("CDNOW", _data_set("cdnow"), most=69_659, currency="USD"),
    "online-retail": Kind(
        "UCI Online Retail", _data_set("online-retail"), most=25_900, currency="GBP"
    ),
}


def events(name: str, count: int) -> Iterator[Event]:
    """Yield so many events of a workload, or all there are; DatasetMissingError."""
    return WORKLOADS[name].events(count)
