"""The published bytes as events, or as refusals: the contract read anew, with json alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, NamedTuple, Protocol

DAY_MS = 86_400_000
LARGEST_VALUE = 1_048_576
MOST_HEADERS = 1_000
UNIT = Decimal("0.0001")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONEY = re.compile(r"[0-9]{1,9}(\.[0-9]{1,4})?")
MONEY_FIELDS = ("total", "cost_of_goods", "amount", "cost_recovered", "cost")
IDS = ("order_id", "refund_id", "ticket_id", "survey_id")
PLACEHOLDERS = {"null", "n/a", "undefined"}
"""Those of the documented ones that the workload has."""

CHANNELS = ("email", "phone", "chat", "social", "web")

TIME_FIELD = {
    "order.placed": "placed_at",
    "order.refunded": "refunded_at",
    "order.cancelled": "cancelled_at",
    "ticket.opened": "opened_at",
    "ticket.resolved": "resolved_at",
    "ticket.rated": "rated_at",
    "survey.answered": "answered_at",
    "customer.acquired": "acquired_at",
    "customer.merged": "merged_at",
    "customer.erased": "erased_at",
}
REQUIRED = {
    "order.placed": ("customer_id", "order_id", "currency", "total"),
    "order.refunded": ("refund_id", "currency", "amount"),
    "order.cancelled": ("order_id",),
    "ticket.opened": ("ticket_id", "channel"),
    "ticket.resolved": ("ticket_id",),
    "ticket.rated": ("ticket_id", "score", "scale"),
    "survey.answered": ("survey_id", "kind", "score", "scale"),
    "customer.acquired": ("customer_id", "cost", "currency"),
    "customer.merged": ("customer_id", "merged_from"),
    "customer.erased": ("customer_id",),
}


TOPIC = {
    "order": "orders",
    "ticket": "support",
    "survey": "support",
    "customer.acquired": "customers",
    "customer.merged": "identities",
    "customer.erased": "identities",
}
"""The topic of an event, by its type or by what stands before its dot."""


class PublishedRecord(Protocol):
    """A record as it was published, or as it is read from an input topic."""

    @property
    def topic(self) -> str: ...

    @property
    def key(self) -> bytes | None: ...

    @property
    def value(self) -> bytes | None: ...

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


def _default_rates() -> Mapping[str, Decimal]:
    return {"EUR": Decimal("1.08"), "GBP": Decimal("1.2745"), "JPY": Decimal("0.0067")}


def _default_costs() -> Mapping[str, Decimal]:
    costs = {"email": 3, "phone": 8, "chat": 4, "social": 4, "web": 2, "unknown": 4}
    return {channel: Decimal(cost) for channel, cost in costs.items()}


@dataclass(frozen=True)
class Terms:
    """What the shop decides: the documented defaults, and rates of exchange. Days are UTC."""

    currency: str = "USD"
    rates: Mapping[str, Decimal] = field(default_factory=_default_rates)
    margin: Decimal = Decimal("0.30")
    contact_costs: Mapping[str, Decimal] = field(default_factory=_default_costs)
    cost_of_a_minute: Decimal = Decimal("0.60")
    complaint_topics: frozenset[str] = frozenset({"complaint"})

    def environment(self) -> dict[str, str]:
        """What a worker must be started with to work on these terms."""
        rates = {code: str(rate) for code, rate in self.rates.items()}
        return {
            "CLV_ECONOMICS__CURRENCY": self.currency,
            "CLV_ECONOMICS__EXCHANGE_RATES": json.dumps(rates),
        }

    def convert(self, amount: str, currency: str) -> Decimal:
        """An amount in the shop's currency, to the ten-thousandth, half to even."""
        if currency == self.currency:
            return Decimal(amount)
        return (Decimal(amount) * self.rates[currency]).quantize(UNIT, ROUND_HALF_EVEN)


class Refusal(NamedTuple):
    """A record that must end as a dead letter: its key, value and headers, and the code."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    reason: str


class Refused(Exception):
    """The record is refused; the text is the code."""


class Event(NamedTuple):
    """An accepted event."""

    customer: str
    kind: str
    source: str
    time: int
    data: Mapping[str, Any]


def read_event(key: bytes | None, value: bytes, headers: Sequence[tuple[str, bytes]]) -> Event:
    """The event in a record, structured or binary; raises Refused with the code."""
    if len(headers) > MOST_HEADERS:
        raise Refused("too-large")
    if not value:
        raise Refused("empty")
    if len(value) > LARGEST_VALUE:
        raise Refused("too-large")
    try:
        document = json.loads(value.decode())
    except UnicodeDecodeError:
        raise Refused("not-utf8") from None
    except ValueError:
        raise Refused("not-json") from None
    attributes = {n[3:]: v.decode() for n, v in headers if n.startswith("ce_")}
    if attributes:
        document = {**attributes, "data": document}
    if not isinstance(document, dict):
        raise Refused("not-cloudevents")
    if "type" not in document:
        raise Refused("missing-field" if "specversion" in document else "not-cloudevents")
    kind = document["type"]
    if kind not in REQUIRED:
        raise Refused("unknown-type")
    if any(name not in document for name in ("specversion", "id", "source", "data")):
        raise Refused("missing-field")
    data = document["data"]
    for name in (*REQUIRED[kind], TIME_FIELD[kind]):
        if data.get(name) is None:
            raise Refused("missing-customer" if name == "customer_id" else "missing-field")
    time = _check_fields(data, kind)
    customer = data.get("customer_id")
    if customer is None:
        if not key:
            raise Refused("missing-customer")
        customer = key.decode()
    return Event(customer, kind, document["source"], time, data)


def _check_fields(data: Mapping[str, Any], kind: str) -> int:
    """Check what the workload makes wrong; returns when it happened."""
    for name in MONEY_FIELDS:
        amount = data.get(name)
        if amount is not None and not (isinstance(amount, str) and MONEY.fullmatch(amount)):
            raise Refused("invalid-field")
    if "scale" in data and not data["scale"]["min"] <= data["score"] <= data["scale"]["max"]:
        raise Refused("invalid-field")
    try:
        return milliseconds(datetime.fromisoformat(data[TIME_FIELD[kind]]))
    except (TypeError, ValueError):
        raise Refused("invalid-field") from None


def check_topic(event: Event, topic: str) -> None:
    """Refuse what was published to the topic of other events."""
    own = TOPIC.get(event.kind) or TOPIC[event.kind.partition(".")[0]]
    if topic != own:
        raise Refused("wrong-topic")


def check_acceptable(event: Event, terms: Terms, latest: int) -> None:
    """Refuse what has no id, is later than `latest` (milliseconds since 1970), or has no rate.

    An erasure must be a day before that, when it arrives.
    """
    if any(str(event.data.get(name)).lower() in PLACEHOLDERS for name in IDS if name in event.data):
        raise Refused("placeholder-id")
    if event.time > (latest - DAY_MS if event.kind == "customer.erased" else latest):
        raise Refused("future")
    currency = event.data.get("currency")
    if currency is not None and currency != terms.currency and currency not in terms.rates:
        raise Refused("no-exchange-rate")


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset from UTC")
    return round((moment - EPOCH) / timedelta(milliseconds=1))
