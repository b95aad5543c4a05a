"""The line items of orders become whole orders, wherever in the file they are."""

from collections.abc import Iterator
from pathlib import Path

from streams.files.cells import AMOUNTS, Cells, Problem
from streams.files.errors import InputFileError
from streams.files.statuses import Standing
from streams.files.values import Amount, parse_amount

AGREED = ("customer_id", "currency", "status")
"""Fields in which the line items of an order must agree."""


class LineItems:
    """Sums the rows of each order; all orders are in memory until the file ends, 750 bytes each."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._orders: dict[tuple[str, int], Cells] = {}
        self._without: list[Cells] = []

    def add(self, cells: Cells) -> None:
        """Add a line item to its order. Raises InputFileError if it contradicts the others."""
        order_id = cells.values.get("order_id")
        if order_id is None:
            text = "order_id is empty; every line item needs it"
            cells.problems.append(Problem(cells.line, "order_id", text))
            cells.values["order_id"] = ""
            self._without.append(cells)
            return
        order = self._orders.setdefault((order_id, cells.values.get("revision", 0)), cells)
        if order is not cells:
            self._join(order, cells)

    def orders(self) -> Iterator[Cells]:
        """The whole orders, in the order of their first lines, and line items without an order."""
        yield from self._orders.values()
        yield from self._without

    def _join(self, order: Cells, item: Cells) -> None:
        """Add a line item to its order: the amounts are summed, and the earliest time counts."""
        for field in AGREED:
            one, other = order.values.get(field), item.values.get(field)
            if one is not None and other is not None and one != other:
                raise self._error(order, item, f"{field} is {other!r} here, and {one!r} there")
        if ("cost_of_goods" in order.values) != ("cost_of_goods" in item.values):
            only = "there" if "cost_of_goods" in order.values else "here"
            raise self._error(
                order,
                item,
                f"cost_of_goods is given only {only}; give it for all its line items, or for none",
            )
        wrong = {problem.field for problem in order.problems}
        for field in {problem.field for problem in item.problems} - wrong:
            # The order cannot be right without this line item, so it must be refused too.
            order.values.pop(field, None)
            if field in item.values:
                order.values[field] = item.values[field]
            wrong.add(field)
        order.problems += item.problems
        if item.standing is Standing.CANCELLED:
            order.standing = item.standing
        for field in item.values.keys() - wrong:
            self._add(field, order, item)

    def _add(self, field: str, order: Cells, item: Cells) -> None:
        value, held = item.values[field], order.values.get(field)
        if held is None:
            order.values[field] = value
        elif field == "time":
            order.values[field] = min(held, value)
        elif field in AMOUNTS:
            total = held.signed() + value.signed()
            try:
                order.values[field] = parse_amount(total)
            except ValueError as error:
                text = f"{field} of order {order.values['order_id']!r} is {total}: {error}"
                order.problems.append(Problem(item.line, field, text))
                order.values[field] = Amount(str(total), False)

    def _error(self, order: Cells, item: Cells, what: str) -> InputFileError:
        order_id = order.values["order_id"]
        return InputFileError(
            self._path, item.line, f"order {order_id!r} is on line {order.line} too: {what}"
        )
