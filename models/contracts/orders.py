"""What storefronts say about orders."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from models.contracts.fields import (
    Amount,
    Contract,
    CurrencyCode,
    EventData,
    Id,
    Label,
    MoneyText,
    Revision,
    Time,
)

MAX_ITEMS = 1_000


class OrderItem(Contract):
    """One line of an order; its price is in the order's currency."""

    sku: Label
    quantity: Amount
    unit_price: MoneyText | None = None


class OrderPlaced(EventData):
    """A customer bought something, or a shop edited the order (a later revision replaces it)."""

    time_field: ClassVar[str] = "placed_at"

    customer_id: Id
    order_id: Id
    placed_at: Time
    currency: CurrencyCode
    total: MoneyText
    """What the shop earns: net of discount and tax."""
    cost_of_goods: MoneyText | None = None
    items: Annotated[tuple[OrderItem, ...] | None, Field(max_length=MAX_ITEMS, fail_fast=True)] = (
        None
    )
    channel: Label | None = None
    revision: Revision | None = None


class OrderRefunded(EventData):
    """Money went back to a customer; without an order it is a credit."""

    time_field: ClassVar[str] = "refunded_at"

    refund_id: Id
    order_id: Id | None = None
    currency: CurrencyCode
    amount: MoneyText
    cost_recovered: MoneyText | None = None
    """Value of the goods that came back."""
    refunded_at: Time


class OrderCancelled(EventData):
    """An order is taken back as if it had not been placed."""

    time_field: ClassVar[str] = "cancelled_at"

    order_id: Id
    cancelled_at: Time
