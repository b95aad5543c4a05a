"""The CloudEvents 1.0 envelope of each event type, and the map of types to data."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from models.contracts.customers import CustomerAcquired, CustomerErased, CustomerMerged
from models.contracts.fields import Allowed, Contract, EventData, Id, Time
from models.contracts.orders import OrderCancelled, OrderPlaced, OrderRefunded
from models.contracts.support import SurveyAnswered, TicketOpened, TicketRated, TicketResolved

EVENT_TYPES: Mapping[str, type[EventData]] = MappingProxyType(
    {
        "order.placed": OrderPlaced,
        "order.refunded": OrderRefunded,
        "order.cancelled": OrderCancelled,
        "ticket.opened": TicketOpened,
        "ticket.resolved": TicketResolved,
        "ticket.rated": TicketRated,
        "survey.answered": SurveyAnswered,
        "customer.acquired": CustomerAcquired,
        "customer.merged": CustomerMerged,
        "customer.erased": CustomerErased,
    }
)
"""What each event type carries: the map to start reading from."""

JsonMediaType = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=r"^[A-Za-z]+/([A-Za-z0-9.-]+\+)?[Jj][Ss][Oo][Nn]\s*(;.*)?$"
    ),
    Allowed("a JSON media type such as application/json"),
]


class Envelope(Contract):
    """What every event has: who says what, under which id.

    `(source, id)` identifies the event; `type` is a key of `EVENT_TYPES` and decides `data`.
    """

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: str
    time: Time | None = None
    subject: str | None = None
    datacontenttype: JsonMediaType | None = None
    data: Any
    """An `EventData`, precisely typed in each subclass."""


class OrderPlacedEvent(Envelope):
    """Envelope of `order.placed`."""

    type: Literal["order.placed"]
    data: OrderPlaced


class OrderRefundedEvent(Envelope):
    """Envelope of `order.refunded`."""

    type: Literal["order.refunded"]
    data: OrderRefunded


class OrderCancelledEvent(Envelope):
    """Envelope of `order.cancelled`."""

    type: Literal["order.cancelled"]
    data: OrderCancelled


class TicketOpenedEvent(Envelope):
    """Envelope of `ticket.opened`."""

    type: Literal["ticket.opened"]
    data: TicketOpened


class TicketResolvedEvent(Envelope):
    """Envelope of `ticket.resolved`."""

    type: Literal["ticket.resolved"]
    data: TicketResolved


class TicketRatedEvent(Envelope):
    """Envelope of `ticket.rated`."""

    type: Literal["ticket.rated"]
    data: TicketRated


class SurveyAnsweredEvent(Envelope):
    """Envelope of `survey.answered`."""

    type: Literal["survey.answered"]
    data: SurveyAnswered


class CustomerAcquiredEvent(Envelope):
    """Envelope of `customer.acquired`."""

    type: Literal["customer.acquired"]
    data: CustomerAcquired


class CustomerMergedEvent(Envelope):
    """Envelope of `customer.merged`."""

    type: Literal["customer.merged"]
    data: CustomerMerged


class CustomerErasedEvent(Envelope):
    """Envelope of `customer.erased`."""

    type: Literal["customer.erased"]
    data: CustomerErased


AnyEvent = Annotated[
    OrderPlacedEvent
    | OrderRefundedEvent
    | OrderCancelledEvent
    | TicketOpenedEvent
    | TicketResolvedEvent
    | TicketRatedEvent
    | SurveyAnsweredEvent
    | CustomerAcquiredEvent
    | CustomerMergedEvent
    | CustomerErasedEvent,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[Envelope] = TypeAdapter(AnyEvent)
"""Reads and writes any event as structured JSON."""

ENVELOPES: Mapping[str, type[Envelope]] = MappingProxyType(
    {
        "order.placed": OrderPlacedEvent,
        "order.refunded": OrderRefundedEvent,
        "order.cancelled": OrderCancelledEvent,
        "ticket.opened": TicketOpenedEvent,
        "ticket.resolved": TicketResolvedEvent,
        "ticket.rated": TicketRatedEvent,
        "survey.answered": SurveyAnsweredEvent,
        "customer.acquired": CustomerAcquiredEvent,
        "customer.merged": CustomerMergedEvent,
        "customer.erased": CustomerErasedEvent,
    }
)


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (draft 2020-12) of each event type, envelope and data together.

    What JSON Schema cannot say is checked beyond it: a score within its scale, a scale whose
    min is less than its max, a merge of two different customers, and times within their range.
    """
    return {name: envelope.model_json_schema() for name, envelope in ENVELOPES.items()}
