"""The cells of an order become its events."""

from collections.abc import Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from zlib import crc32

from streams.files.cells import Cells, Problem
from streams.files.outgoing import OutgoingEvent, cloud_event, encode_json
from streams.files.statuses import Standing
from streams.files.values import TEN_THOUSANDTH, Amount

NONE = Amount(None, False)


def events_of(cells: Cells, source: str, latest: datetime) -> list[OutgoingEvent]:
    """Return the events of an order, none if it does not count.

    An order and its cancellation or refund, or a refund alone if the amount is negative. latest:
    their time, if the row's own is not known. What is wrong is added to the problems of the cells.
    """
    if cells.standing is Standing.UNPAID:
        return []
    _take_off_tax(cells)
    order_id, happened = cells.values["order_id"], cells.time
    events = []
    for event_type, fields in _data(cells):
        data = {name: value for name, value in fields.items() if value is not None}
        event = cloud_event(
            "orders",
            event_type,
            source=source,
            event_id=f"{order_id}-{crc32(encode_json(data)):08x}",
            time=happened or latest,
            data=data,
            customer_id=cells.values.get("customer_id"),
            line=cells.line,
        )
        events.append(event)
    return events


def _data(cells: Cells) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield type and data of each event; what is None is absent."""
    values = cells.values
    time = values.get("time", "")
    amount = values.get("amount", Amount("", False))
    cost = values.get("cost_of_goods", NONE)
    whose = {"customer_id": values.get("customer_id")}
    currency = {"currency": values["currency"]}
    if amount.negative:
        if cells.standing is not Standing.CANCELLED:
            yield (
                "order.refunded",
                whose
                | currency
                | {
                    "refund_id": values["order_id"],
                    "amount": amount.text,
                    "refunded_at": time,
                    "cost_recovered": cost.text,
                },
            )
        return
    if cost.negative:
        text = f"cost_of_goods is -{cost.text}, but the amount is not negative"
        cells.problems.append(Problem(cells.line, "cost_of_goods", text))
    order_id = {"order_id": values["order_id"]}
    yield (
        "order.placed",
        whose
        | currency
        | order_id
        | {
            "total": amount.text,
            "placed_at": time,
            "cost_of_goods": f"-{cost.text}" if cost.negative else cost.text,
            "channel": values.get("channel"),
            "revision": values.get("revision"),
        },
    )
    if cells.standing is Standing.CANCELLED:
        cancelled_at = values.get("cancelled_at", time)
        yield "order.cancelled", whose | order_id | {"cancelled_at": cancelled_at}
    elif refunded := _refunded(cells, amount):
        yield (
            "order.refunded",
            whose
            | currency
            | order_id
            | {
                "refund_id": f"{values['order_id']}-refund",
                "amount": refunded,
                "refunded_at": time,
            },
        )


def _refunded(cells: Cells, amount: Amount) -> str | None:
    """Return how much was refunded; None if nothing was."""
    refunded: Amount = cells.values.get("refunded", NONE)
    if _is_wrong(cells, "refunded"):
        return refunded.text
    if refunded.signed() != 0:
        # Some exports write what was refunded as a negative number.
        return refunded.text
    return amount.text if cells.standing is Standing.REFUNDED else None


def _take_off_tax(cells: Cells) -> None:
    """Take the tax off the amount, and off the refund in proportion."""
    values = cells.values
    tax = values.pop("tax", None)
    if tax is None or _is_wrong(cells, "amount"):
        return
    if _is_wrong(cells, "tax"):
        values["amount"] = tax
        return
    gross = values["amount"].signed()
    net = gross - tax.signed()
    if abs(tax.signed()) > abs(gross):
        text = f"tax is {tax.signed()}, more than the amount, which is {gross}"
        cells.problems.append(Problem(cells.line, "tax", text))
        values["amount"] = Amount(str(net), False)
        return
    values["amount"] = Amount(_text(abs(net)), net < 0)
    if "refunded" in values and gross != 0 and not _is_wrong(cells, "refunded"):
        values["refunded"] = Amount(_text(abs(values["refunded"].signed() * net / gross)), False)


def _is_wrong(cells: Cells, name: str) -> bool:
    return any(problem.field == name for problem in cells.problems)


def _text(amount: Decimal) -> str:
    if -amount.as_tuple().exponent <= 4:  # type: ignore[operator]
        return f"{amount:f}"
    return f"{amount.quantize(TEN_THOUSANDTH, ROUND_HALF_EVEN).normalize():f}"
