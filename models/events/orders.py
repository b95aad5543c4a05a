"""Orders: `order.placed` and `order.cancelled`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import Field

from models.aggregate.cancellations import (
    cancellations_without,
    forget_compacted,
    forget_waiting,
    joined_cancellations,
    note_cancelled,
    sort_out,
    waiting,
)
from models.aggregate.compacted import (
    CEILING,
    Compacted,
    Money,
    Sale,
    add_money,
    add_months,
    compacted_of,
    is_full,
    prune,
    totals_of,
)
from models.aggregate.registers import Register, fingerprint, insert
from models.aggregate.versions import MOST_SUPERSEDED, frontier, set_versions, versions_of
from models.calendar import month_of
from models.currencies import CODES, HOME, NUMBERS
from models.events.fields import (
    Amount,
    Contract,
    CurrencyCode,
    EventData,
    Id,
    Label,
    MoneyText,
    Revision,
    Time,
    money_text,
    money_units,
)
from models.events.kinds import (
    SEND_IN_ORDER,
    Effect,
    Entries,
    EventType,
    lag_of,
    lost,
    register,
    won,
)

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.economics import Economics
    from models.events.envelope import Envelope

MAX_ITEMS: Final = 1_000


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
    """What the shop keeps of the price, before its costs: net of discount and of tax. Shipping that
    the customer pays belongs here, net of tax, if `cost_of_goods` has what it costs the shop; else
    leave it out. Decimal text such as "40.00"."""
    cost_of_goods: MoneyText | None = None
    """What the order costs the shop, net of tax: the order earns `total` less this. Without it, the
    order earns the shop's margin (CLV_ECONOMICS__MARGIN) of its total."""
    items: Annotated[tuple[OrderItem, ...] | None, Field(max_length=MAX_ITEMS, fail_fast=True)] = (
        None
    )
    channel: Label | None = None
    revision: Revision | None = None


class OrderCancelled(EventData):
    """An order is taken back as if it had not been placed."""

    time_field: ClassVar[str] = "cancelled_at"

    order_id: Id
    cancelled_at: Time


class Order(Register, array_like=True, frozen=True, order=True, gc=False):
    """An order; `cost` of its goods is -1 when the event carried none."""

    revision: int
    time: int
    lag: int
    gross: int
    currency: int
    cost: int

    @property
    def said(self) -> int:
        """When this version was said."""
        return self.time + self.lag

    @property
    def word(self) -> tuple[int, ...]:
        """The revision, and when this version was said."""
        return self.revision, self.said

    @property
    def rank(self) -> tuple[int, ...]:
        """Of two versions the one with the greater rank counts: a later revision or word."""
        return (
            self.revision, self.time + self.lag, self.time, self.gross, self.currency, self.cost
        )  # fmt: skip


class Orders(Entries):
    """Orders by their fingerprint, their superseded versions, and which are cancelled."""

    field = "orders"

    def joined(self, left: Aggregate, right: Aggregate) -> dict[str, Any]:
        """Join the versions of each order, and the latest cancellations."""
        orders: dict[int, Order] = {}
        superseded: dict[int, tuple[Order, ...]] = {}
        for key in left.orders.keys() | right.orders.keys():
            winner, *others = frontier((*versions_of(left, key), *versions_of(right, key)))
            orders[key] = winner
            if others:
                superseded[key] = tuple(others[-MOST_SUPERSEDED:])
        return {
            "orders": self.in_order(orders),
            "superseded": dict(sorted(superseded.items())),
            "cancelled": joined_cancellations(left.cancelled, right.cancelled),
        }

    def unknown_to(
        self, believed: Aggregate, other: Aggregate, compacted: Compacted
    ) -> dict[str, Any]:
        """Leave out versions that may be in the sums."""
        orders, superseded = {}, {}
        for key in other.orders:
            known = believed.orders.get(key)
            versions = versions_of(other, key)
            if known is not None:
                versions = tuple(
                    version
                    for version in versions
                    if (version.time, key) > compacted.orders_until or version.time >= known.time
                )
            elif (versions[0].time, key) <= compacted.orders_until:
                continue
            if versions:
                orders[key] = versions[0]
            if versions[1:]:
                superseded[key] = versions[1:]
        return {"orders": orders, "superseded": superseded, "cancelled": other.cancelled}

    def without(self, state: Aggregate, until: int) -> dict[str, Any]:
        """Leave out versions and cancellations at or before a time."""
        orders = {key: order for key, order in state.orders.items() if order.time > until}
        superseded = {}
        for key in state.superseded:
            later = tuple(version for version in versions_of(state, key) if version.time > until)
            if later:
                orders[key] = later[0]
            if later[1:]:
                superseded[key] = later[1:]
        return {
            "orders": self.in_order(orders) if state.superseded else orders,
            "superseded": superseded,
            "cancelled": cancellations_without(state, until),
        }

    def compact(self, state: Aggregate, config: Economics) -> None:
        """Compact the oldest orders above `config.remembered`, in place."""
        if len(state.orders) <= config.remembered:
            return
        compacted = compacted_of(state)
        while len(state.orders) > config.remembered:
            compact_order(state, compacted, next(iter(state.orders)), config)
        forget_compacted(state, compacted, config.remembered)
        prune(compacted)

    def tidy(self, state: Aggregate) -> None:
        """Move the cancellations to where their orders are, and drop excess ones, in place."""
        sort_out(state)
        forget_waiting(state)


ORDERS: Final = Orders()


def compact_order(state: Aggregate, compacted: Compacted, key: int, config: Economics) -> None:
    """Compact an order, its versions and its cancellation."""
    # The boundary covers all versions: from now on none of them is recognised.
    latest = versions_of(state, key)[-1].time
    compacted.orders_until = max(compacted.orders_until, (latest, key))
    state.superseded.pop(key, None)
    order = state.orders.pop(key)
    cancelled = state.cancelled.pop(key, None)
    if cancelled is None or cancelled < order.said:
        _add(compacted, order, config)
        if order.cost >= 0 and refers_to(state, key):
            compacted.sold[key] = Sale(order.gross, order.currency, order.cost)
    else:
        note_cancelled(compacted.cancelled, key, cancelled)


def _add(compacted: Compacted, order: Order, config: Economics) -> None:
    """Add an order of any time to the sums."""
    day = config.day(order.time)
    totals = totals_of(compacted, day)
    if compacted.orders == 0 or (
        totals.orders == 0 and day not in (compacted.first_day, compacted.last_day)
    ):
        compacted.purchase_days += 1
        add_months(compacted, {month_of(day): 1})
    if compacted.orders == 0 or day < compacted.first_day:
        compacted.first_day, compacted.first_day_gross = day, {}
    if day == compacted.first_day:
        first, currency, gross = compacted.first_day_gross, order.currency, order.gross
        if config.by_day(currency):
            currency, gross = config.home, config.convert(gross, currency, day)
        first[currency] = min(first.get(currency, 0) + gross, CEILING)
    compacted.last_day = max(compacted.last_day, day)
    compacted.orders += 1
    totals.orders += 1
    uncosted, cost = (order.gross, 0) if order.cost < 0 else (0, order.cost)
    add_money(
        (compacted.money, totals.money),
        order.currency,
        Money(gross=order.gross, uncosted=uncosted, cost=cost),
        day,
        config,
    )


def _place(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderPlaced = event.data
    key = fingerprint(event.source, data.order_id)
    cost = -1 if data.cost_of_goods is None else money_units(data.cost_of_goods)
    incoming = Order(
        data.revision or 0,
        time,
        lag_of(event, time),
        money_units(data.total),
        NUMBERS[data.currency],
        cost,
    )
    known = state.orders.get(key)
    if known is not None and known.time >= time and known.rank >= incoming.rank:
        return lost(known, incoming)
    compacted = state.compacted
    if compacted is not None:
        if key in compacted.cancelled:
            later = incoming.said > compacted.cancelled[key]
            return Effect.TOO_OLD if later else Effect.DUPLICATE
        if (time, key) <= compacted.orders_until and (known is None or time < known.time):
            # Nor can a revision move an order before the boundary: days are counted in order.
            return Effect.TOO_OLD
        if time <= compacted.refunds_until[0] and _reinstates(state, key, incoming):
            # Its refunds, void until now, may be among those that were compacted as such.
            return Effect.TOO_OLD
    if known is not None:
        return _revise(state, key, incoming)
    insert(state.orders, key, incoming, ORDERS.time_of)
    last = key == next(reversed(state.orders))
    plain = key not in state.cancelled and not (state.refunds and refers_to(state, key))
    appended = last and plain
    if (excess := len(state.orders) - config.remembered) > 0:
        exact = _are_home(islice(state.orders.values(), excess), config)
        ORDERS.compact(state, config)
        appended = appended and exact and not is_full(compacted_of(state).money)
    return Effect.APPENDED if appended else Effect.APPLIED


def _are_home(orders: Iterable[Order], config: Economics) -> bool:
    """Return whether all amounts are in the reporting currency.

    A compaction changes sums of converted amounts a little: they are rounded once, not one by one.
    """
    home = HOME, config.home
    return all(order.currency in home for order in orders)


def refers_to(state: Aggregate, key: int) -> bool:
    """Return whether a refund of this order is known; it came before the order."""
    return any(refund.order == key for refund in state.refunds.values())


def beyond_total(state: Aggregate, key: int, order_id: str) -> str | None:
    """Return in words that the refunds of an order exceed its total; None if they do not.

    Only what is remembered is added up, and only refunds in the order's currency. An order that is
    cancelled has none, since they are void.
    """
    compacted = state.compacted
    order = state.orders.get(key) or (None if compacted is None else compacted.sold.get(key))
    if order is None or (isinstance(order, Order) and order.said <= state.cancelled.get(key, -1)):
        return None
    refunded = sum(
        refund.amount
        for refund in state.refunds.values()
        if refund.order == key and refund.currency == order.currency
    )
    if refunded <= order.gross:
        return None
    code = CODES[order.currency]
    return (
        f"refunds of order {order_id!r} come to {money_text(refunded)} {code} together, more than "
        f"its total of {money_text(order.gross)} {code}; all of them count. Check whether each "
        "amount is what the shop gives back of the total, net of tax, and whether a refund was "
        "sent under two ids. A refund sent again under its id with a later time is replaced"
    )


def _order_doubt(state: Aggregate, event: Envelope) -> tuple[str, str] | None:
    data: OrderPlaced = event.data
    words = beyond_total(state, fingerprint(event.source, data.order_id), data.order_id)
    return None if words is None else ("total", words)


def _reinstates(state: Aggregate, key: int, incoming: Order) -> bool:
    """Return whether a word makes a cancelled order count again."""
    cancelled, known = state.cancelled.get(key, incoming.said), state.orders.get(key)
    return incoming.said > cancelled and (known is None or known.said <= cancelled)


def _revise(state: Aggregate, key: int, incoming: Order) -> Effect:
    held = versions_of(state, key)
    kept = frontier((*held, incoming))
    if kept == held:
        return lost(held[0], incoming)
    if len(kept) > 1 + MOST_SUPERSEDED:
        return Effect.TOO_OLD
    set_versions(state, key, kept)
    return won(held[0], incoming)


def _cancel(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderCancelled = event.data
    key = fingerprint(event.source, data.order_id)
    compacted = state.compacted
    entries = state.cancelled
    if compacted is not None and key in compacted.cancelled:
        entries = compacted.cancelled
    if key not in entries and _is_cancelled_too_late(state, key, config):
        return Effect.TOO_OLD
    return Effect.APPLIED if note_cancelled(entries, key, time) else Effect.DUPLICATE


def _is_cancelled_too_late(state: Aggregate, key: int, config: Economics) -> bool:
    """Return whether the order or a refund may be compacted, or too many cancellations wait."""
    order, compacted = state.orders.get(key), state.compacted
    if compacted is not None:
        refunds_until, _ = compacted.refunds_until
        if order is not None:
            return order.time <= refunds_until
        if compacted.orders_until[0] >= 0 or refunds_until >= 0:
            return True
    full = len(state.cancelled) >= config.remembered
    return order is None and full and len(waiting(state)) >= config.remembered


def _order_too_old(data: OrderPlaced, config: Economics) -> tuple[str, str]:
    return data.time_field, (
        f"data.{data.time_field} is {data.occurred_at.isoformat()}, not later than orders that "
        f"are no longer among the last {config.remembered} of the customer; or revisions moved the "
        f"order back in time {MOST_SUPERSEDED} times already; or it was cancelled, and refunds of "
        f"it are no longer remembered; {SEND_IN_ORDER}"
    )


def _cancellation_too_old(data: OrderCancelled, config: Economics) -> tuple[str, str]:
    return "order_id", (
        f"data.order_id is {data.order_id!r}, which is not among the last {config.remembered} "
        "orders of the customer, or had refunds that are no longer among the last; or as many "
        "cancellations wait for their orders; publish order.placed first, and "
        f"{SEND_IN_ORDER}"
    )


register(
    EventType(
        "order.placed", OrderPlaced, "orders", ("total", "cost_of_goods"), _place, _order_too_old,
        ("order_id",), _order_doubt,
    ),
    EventType(
        "order.cancelled", OrderCancelled, "orders", (), _cancel, _cancellation_too_old,
        ("order_id",),
    ),
)  # fmt: skip
