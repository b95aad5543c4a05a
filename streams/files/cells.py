"""The cells of a row are read as the fields of an order."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from models.acceptance import FUTURE_TOLERANCE
from streams.files import columns as column_names
from streams.files.columns import Layout
from streams.files.errors import InputFileError
from streams.files.rows import Row, read_rows
from streams.files.shops import Shop
from streams.files.statuses import STATUSES, Standing, plain_status
from streams.files.values import (
    Amount,
    is_empty,
    parse_amount,
    parse_currency,
    parse_id,
    parse_revision,
    parse_time,
    text_of,
)

AMOUNTS = ("amount", "cost_of_goods", "tax", "refunded", "quantity")
TIMES = ("time", "cancelled_at")
NO_CURRENCY = "there is no currency: name one for the whole file, such as EUR, or add a column"
NOT_CAPTURED = "not captured"
TOLERANCE = timedelta(milliseconds=FUTURE_TOLERANCE)
SHOWN_STATUSES = 10


class Problem(NamedTuple):
    """Why a row makes no event that can be accepted; field: the one at fault, "row" if all is."""

    line: int
    field: str
    text: str


@dataclass(slots=True)
class Cells:
    """The fields of one order. What cannot be read stays as it is in the file, and is a problem."""

    line: int
    values: dict[str, Any]
    problems: list[Problem] = field(default_factory=list)
    standing: Standing = Standing.PAID

    @property
    def time(self) -> datetime | None:
        """When it happened; None if the row does not say, or if that cannot be."""
        time = self.values.get("time")
        if self.problems and any(problem.field == "time" for problem in self.problems):
            return None
        return time if isinstance(time, datetime) else None


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the cells of a file are to be read.

    zone: of times without an offset. currency: of rows that name none. now: later times, by more
    than a day, are refused; None: no time is. shop: whose export it is. statuses: what statuses
    mean, beside the usual ones. ignore_status: whether all rows count, whatever their status.
    comma: whether amounts have a decimal comma.
    """

    zone: tzinfo
    currency: str | None
    now: datetime | None = None
    shop: Shop | None = None
    statuses: Mapping[str, Standing] = field(default_factory=dict)
    ignore_status: bool = False
    comma: bool = False


class CellReader:
    """Reads the rows of one file."""

    def __init__(self, path: Path, columns: Mapping[str, str], dialect: Dialect) -> None:
        self._path = path
        self._columns = columns
        self._dialect = dialect
        time = partial(parse_time, zone=dialect.zone)
        amount = partial(parse_amount, comma=dialect.comma)
        self._parsers: Mapping[str, Callable[[object], object]] = {
            "customer_id": parse_id if dialect.shop is None else _customer,
            "time": time,
            "amount": amount,
            "quantity": amount,
            "order_id": parse_id,
            "currency": parse_currency,
            "cost_of_goods": amount,
            "channel": text_of,
            "revision": parse_revision,
            "status": text_of,
            "tax": amount,
            "refunded": amount,
            "cancelled_at": time,
        }
        usual = STATUSES if dialect.shop is None else dialect.shop.statuses
        self._statuses = {**usual, **dialect.statuses}
        self._nobody = frozenset() if dialect.shop is None else dialect.shop.nobody
        self._layouts: dict[tuple[str, ...], Layout] = {}

    def read(self, row: Row) -> Cells:
        """Read a row. Raises InputFileError for a column that is missing or not understood."""
        layout = self._layout_of(row)
        cells = Cells(row.line, {})
        for name, header in layout.fields.items():
            value = row.values.get(header)
            if name == "customer_id" and layout.otherwise and self._is_nobody(value):
                value = row.values.get(layout.otherwise)
            if is_empty(value):
                continue
            try:
                cells.values[name] = self._parsers[name](value)
                wrong = ahead(cells.values[name], self._dialect.now) if name in TIMES else ""
            except ValueError as error:
                cells.values[name] = Amount(str(value), False) if name in AMOUNTS else str(value)
                wrong = str(error)
            if wrong:
                text = f"{name} (column {header!r}) is {value!r}: {wrong}"
                cells.problems.append(Problem(row.line, name, text))
        _multiply(cells, layout)
        for name in column_names.REQUIRED:
            if name not in cells.values:
                column = layout.fields.get(name)
                what = f"column {column!r} is empty" if column else "there is no such field"
                text = f"{name}: {what}; every row needs it"
                cells.problems.append(Problem(row.line, name, text))
        if "currency" not in cells.values:
            cells.values["currency"] = self._dialect.currency
            if self._dialect.currency is None:
                cells.problems.append(Problem(row.line, "currency", NO_CURRENCY))
        self._judge(cells, row, layout)
        return cells

    def _is_nobody(self, value: object) -> bool:
        return is_empty(value) or str(value).strip() in self._nobody

    def _judge(self, cells: Cells, row: Row, layout: Layout) -> None:
        """Say what became of the order."""
        header = layout.fields.get("status")
        if header is not None and not self._dialect.ignore_status:
            status = cells.values.get("status", "")
            standing = self._statuses.get(plain_status(status))
            if standing is not None:
                cells.standing = standing
            elif status or not self._is_further_item(cells):
                raise self._unknown_status(row, header, status)
        if cells.standing is Standing.UNPAID:
            return
        if _is_false(row.values.get(layout.captured or "")):
            cells.standing, cells.values["status"] = Standing.UNPAID, NOT_CAPTURED
        elif "cancelled_at" in cells.values:
            cells.standing = Standing.CANCELLED

    def _is_further_item(self, cells: Cells) -> bool:
        """Whether it is a line item of an order whose first row says everything."""
        shop = self._dialect.shop
        return shop is not None and shop.line_items and "amount" not in cells.values

    def _layout_of(self, row: Row) -> Layout:
        """Return where the fields are; JSONL lines may differ from each other."""
        found = tuple(row.values)
        layout = self._layouts.get(found)
        if layout is None:
            shop = self._dialect.shop
            layout = self._layouts[found] = column_names.resolve(found, self._columns, shop)
            if row.raw is None:
                lacking = column_names.missing(layout, found, self._columns, shop)
                if lacking:
                    raise InputFileError(self._path, None, lacking)
                if "currency" not in layout.fields and self._dialect.currency is None:
                    raise InputFileError(self._path, None, NO_CURRENCY)
            status = column_names.status_of(found)
            if not (self._dialect.ignore_status or "status" in layout.fields or status is None):
                raise InputFileError(
                    self._path,
                    None,
                    f"the column {status!r} may say that rows do not count, and nobody said what "
                    f"to do with it: add --columns status={status!r}, or --ignore-status to count "
                    f"every row; it has {self._statuses_in(status)}",
                )
        return layout

    def _unknown_status(self, row: Row, header: str, status: str) -> InputFileError:
        return InputFileError(
            self._path,
            row.line,
            f"status (column {header!r}) is {status!r}, and it is not known whether such rows "
            f"count: add --status '{status}=paid' (or refunded, cancelled, unpaid), or "
            f"--ignore-status; the column has {self._statuses_in(header)}",
        )

    def _statuses_in(self, header: str) -> str:
        """Return the values of a column, the most frequent first."""
        rows = read_rows(self._path)
        values = Counter(str(row.values[header]) for row in rows if header in row.values)
        shown = [f"{value!r} ({n} rows)" for value, n in values.most_common(SHOWN_STATUSES)]
        return ", ".join([*shown, "…"] if len(values) > SHOWN_STATUSES else shown)


def _multiply(cells: Cells, layout: Layout) -> None:
    """Make the price of a piece the amount of all, if the row has a quantity."""
    header = layout.fields.get("quantity")
    if header is None:
        return
    quantity, price = cells.values.pop("quantity", None), cells.values.get("amount")
    if quantity is None:
        text = f"quantity: column {header!r} is empty; every row needs it"
        cells.problems.append(Problem(cells.line, "quantity", text))
        cells.values["amount"] = Amount("", False)
    elif any(problem.field == "quantity" for problem in cells.problems):
        cells.values["amount"] = quantity
    elif price is not None and not any(problem.field == "amount" for problem in cells.problems):
        total = quantity.signed() * price.signed()
        try:
            cells.values["amount"] = parse_amount(total)
        except ValueError as error:
            text = f"amount is {price.signed()} times {quantity.signed()}: {error}"
            cells.problems.append(Problem(cells.line, "amount", text))
            cells.values["amount"] = Amount(str(total), False)


def ahead(time: datetime, now: datetime | None) -> str:
    """Say that a time is more than a day ahead, which the service refuses; "" if it is not."""
    if now is None or time <= now + TOLERANCE:
        return ""
    return f"more than a day ahead of now, {now.isoformat(timespec='seconds')}; correct the date"


def _is_false(value: object) -> bool:
    return str(value).strip().lower() == "false"


def _customer(value: object) -> str:
    """Return the id; an e-mail address, which people write in various ways, in lower case."""
    text = parse_id(value)
    return text.lower() if "@" in text else text
