"""Money that went back to a customer: `order.refunded`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from models.aggregate.cancellations import cancelled_orders, may_be_cancelled
from models.aggregate.compacted import (
    Compacted,
    Money,
    Sale,
    add_money,
    compacted_of,
    prune,
    totals_of,
)
from models.aggregate.registers import Register, fingerprint, insert
from models.currencies import NUMBERS
from models.events.fields import CurrencyCode, EventData, Id, MoneyText, Time, money_units
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
from models.events.orders import Order, beyond_total

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.economics import Economics
    from models.events.envelope import Envelope


class OrderRefunded(EventData):
    """Money went back to a customer; without an order it is a credit."""

    time_field: ClassVar[str] = "refunded_at"

    refund_id: Id
    order_id: Id | None = None
    currency: CurrencyCode
    amount: MoneyText
    """What the shop gives back of the order's `total`, in the same terms: net of tax, and of
    discount. Decimal text such as "20.00"."""
    cost_recovered: MoneyText | None = None
    """What of the order's `cost_of_goods` the shop has again, since goods came back; 0 if nothing
    did. Without it, the refunded share of the order's cost counts as recovered."""
    refunded_at: Time


class Refund(Register, array_like=True, frozen=True, order=True, gc=False):
    """A refund or credit.

    order: the fingerprint of its order, 0 for a credit. recovered: value of the goods that came
    back, -1 when the event does not say.
    """

    time: int
    lag: int
    order: int
    amount: int
    currency: int
    recovered: int


class Refunds(Entries):
    """Refunds by their fingerprint, in order of their time."""

    field = "refunds"

    def unknown_to(
        self, believed: Aggregate, other: Aggregate, compacted: Compacted
    ) -> dict[str, Any]:
        """Leave out refunds that may be in the sums."""
        return {
            self.field: {
                key: refund
                for key, refund in other.refunds.items()
                if key in believed.refunds or (refund.time, key) > compacted.refunds_until
            }
        }

    def compact(self, state: Aggregate, config: Economics) -> None:
        """Compact the oldest refunds above `config.remembered`, in place."""
        if len(state.refunds) <= config.remembered:
            return
        compacted = compacted_of(state)
        void = cancelled_orders(state)
        while len(state.refunds) > config.remembered:
            key = next(iter(state.refunds))
            refund = state.refunds.pop(key)
            compacted.refunds_until = max(compacted.refunds_until, (refund.time, key))
            if refund.order not in void:
                _add(compacted, refund, order_of(state, refund), config)
        forget_sold(state, compacted)
        prune(compacted)


REFUNDS: Final = Refunds()


def order_of(state: Aggregate, refund: Refund) -> Order | Sale | None:
    """Return the order that a refund names, if anything is remembered of it."""
    order = state.orders.get(refund.order)
    if order is None and state.compacted is not None:
        return state.compacted.sold.get(refund.order)
    return order


def forget_sold(state: Aggregate, compacted: Compacted) -> None:
    """Drop the sales that no remembered refund names, in place."""
    if compacted.sold:
        named = {refund.order for refund in state.refunds.values()}
        compacted.sold = {key: compacted.sold[key] for key in sorted(named & compacted.sold.keys())}


def _add(
    compacted: Compacted, refund: Refund, order: Order | Sale | None, config: Economics
) -> None:
    """Add a refund to the sums."""
    compacted.refunds += 1
    day = config.day(refund.time)
    sums = (compacted.money, totals_of(compacted, day).money)
    add_money(sums, refund.currency, Money(refunded=refund.amount), day, config)
    costed = order if order is not None and order.cost >= 0 else None
    if refund.recovered >= 0:
        recovered, currency = refund.recovered, refund.currency
        if costed is None:
            recovered = min(recovered, refund.amount)
        else:
            most = config.convert(costed.cost, costed.currency, day)
            if config.convert(recovered, currency, day) > most:
                recovered, currency = costed.cost, costed.currency
        add_money(sums, currency, Money(recovered=recovered), day, config)
    elif costed is not None:
        cost = _cost_of(refund, costed, config)
        add_money(sums, costed.currency, Money(returned_cost=cost), day, config)
    elif refund.order:
        add_money(sums, refund.currency, Money(returned=refund.amount), day, config)


def _cost_of(refund: Refund, order: Order | Sale, config: Economics) -> int:
    """Return the cost of the refunded goods, in the order's currency."""
    if refund.currency == order.currency:
        return _share(order.cost, refund.amount, order.gross)
    day = config.day(refund.time)
    amount = config.convert(refund.amount, refund.currency, day)
    return _share(order.cost, amount, config.convert(order.gross, order.currency, day))


def _share(cost: int, amount: int, gross: int) -> int:
    """Return the share of an order's cost that an amount is of its gross, at most all of it."""
    return cost if amount >= gross else cost * amount // gross


def recovered_goods(refund: Refund, order: Order | Sale | None, config: Economics) -> int:
    """Return the value of the goods that a refund brought back, in units of the reporting currency.

    As the refund says, but not more than the order's cost or, where that is unknown, the refund.
    Where it does not say: the share of the order's cost that was refunded, less `lost_goods`. The
    cost of an order that did not tell it follows from the margin. A credit without an order brings
    nothing back. order: that of the refund, if it is remembered.
    """
    day = config.day(refund.time)
    amount = config.convert(refund.amount, refund.currency, day)
    cost = gross = -1
    if order is not None and order.cost >= 0:
        cost = config.convert(order.cost, order.currency, day)
        gross = config.convert(order.gross, order.currency, day)
    if refund.recovered >= 0:
        recovered = config.convert(refund.recovered, refund.currency, day)
        return min(recovered, amount if cost < 0 else cost)
    if cost >= 0:
        back = _share(cost, amount, gross)
    elif refund.order:
        back = uncosted_cost(amount, config)
    else:
        return 0
    return back * config.kept_millionths // 1_000_000


def compacted_goods(money: Money, currency: int, day: int, config: Economics) -> int:
    """Return the value of the goods that compacted refunds brought back, as `recovered_goods`."""
    cost = uncosted_cost(config.convert(money.returned, currency, day), config)
    cost += config.convert(money.returned_cost, currency, day)
    recovered = config.convert(money.recovered, currency, day)
    return recovered + cost * config.kept_millionths // 1_000_000


def uncosted_cost(amount: int, config: Economics) -> int:
    """Return the cost of goods sold at an amount, by the margin, rounded up."""
    return amount - amount * config.margin_millionths // 1_000_000


def _fold(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderRefunded = event.data
    key = fingerprint(event.source, data.refund_id)
    order = 0 if data.order_id is None else fingerprint(event.source, data.order_id)
    recovered = -1 if data.cost_recovered is None else money_units(data.cost_recovered)
    incoming = Refund(
        time,
        lag_of(event, time),
        order,
        money_units(data.amount),
        NUMBERS[data.currency],
        recovered,
    )
    known = state.refunds.get(key)
    if known is not None and known >= incoming:
        return lost(known, incoming)
    compacted = state.compacted
    if compacted is not None:
        if known is None and (time, key) <= compacted.refunds_until:
            return Effect.TOO_OLD
        if (known is None or known.order != order) and may_be_cancelled(state, order):
            return Effect.TOO_OLD
    insert(state.refunds, key, incoming, REFUNDS.time_of)
    REFUNDS.compact(state, config)
    return won(known, incoming)


def _doubt(state: Aggregate, event: Envelope) -> tuple[str, str] | None:
    data: OrderRefunded = event.data
    if data.order_id is None:
        return None
    words = beyond_total(state, fingerprint(event.source, data.order_id), data.order_id)
    return None if words is None else ("amount", words)


def _too_old(data: OrderRefunded, config: Economics) -> tuple[str, str]:
    return data.time_field, (
        f"data.{data.time_field} is {data.occurred_at.isoformat()}, not later than refunds that "
        f"are no longer among the last {config.remembered} of the customer; or data.order_id is "
        f"{data.order_id!r}, of which nobody remembers whether it was cancelled; {SEND_IN_ORDER}"
    )


register(
    EventType(
        "order.refunded", OrderRefunded, "orders", ("amount", "cost_recovered"), _fold, _too_old,
        ("refund_id", "order_id"), _doubt,
    )
)  # fmt: skip
