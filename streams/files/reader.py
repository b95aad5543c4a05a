"""A file of orders becomes events."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Literal

from models.calendar import time_zone
from streams.files import columns as column_names
from streams.files.cells import CellReader, Cells, Dialect, Problem
from streams.files.errors import InputFileError
from streams.files.identity import OneRowEach, OrderIds
from streams.files.line_items import LineItems
from streams.files.orders import events_of
from streams.files.outgoing import OutgoingEvent
from streams.files.passed_on import passed_on
from streams.files.report import FileReport
from streams.files.rows import file_format, read_rows
from streams.files.shops import SHOPS
from streams.files.statuses import Standing, plain_status
from streams.files.values import parse_currency

DEFAULT_SOURCE = "/files"
"""One for all files: exports that overlap then say the same order twice, which counts once."""


def read_orders(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    currency: str | None = None,
    source: str | None = None,
    *,
    timezone: str = "UTC",
    line_items: bool = False,
    shop: str | None = None,
    statuses: Mapping[str, str] | None = None,
    ignore_status: bool = False,
    decimal: Literal["point", "comma"] = "point",
    errors: Literal["raise", "publish"] = "raise",
    now: datetime | None = None,
    report: FileReport | None = None,
) -> Iterator[OutgoingEvent]:
    """Return the events of a CSV, JSONL (both also .gz) or Parquet file, in the file's order.

    A row is one whole order: customer_id, time (or date), amount, and optionally order_id, currency
    (else `currency`), cost_of_goods, channel, revision, status, tax, refunded, cancelled_at.
    `columns` maps these names to the file's headers; usual headers are known (`columns.FIELDS`), or
    those of the export of a `shop` (`shops.SHOPS`).

    - A date without a time is noon, and a time without an offset is local, in `timezone`. With
      `now`, a time that is more than a day later is refused.
    - An order id must not be on two rows that differ, unless their revisions do. With `line_items`,
      the rows of an order are summed instead, and the orders come when the file has ended.
    - A row without an order id gets one that is made of its customer, time, amount and currency,
      and numbered among equal rows. Order ids are scoped by `source` ("/files"): give each shop its
      own.
    - Amounts have a `decimal` point, or comma; then 1.234,50 is read too.
    - A negative amount is an order.refunded without an order, its id taken as the refund's; a zero
      is an order. More than 4 decimals are rounded half to even.
    - A row counts by its status: as an order, an order and its refund or cancellation, or not at
      all. `statuses` says what those mean that are not known: "paid", "refunded", "cancelled" or
      "unpaid". A column that looks like a status has to be named, unless `ignore_status`.
    - The event id depends on the row's content: the same row, loaded again, counts once.
    - A line of JSONL with a "specversion" is a CloudEvent, passed on byte for byte.

    Raises InputFileError, with line and column, for a file or row that makes no event;
    errors="publish" passes such rows on as they are, for the service to refuse. `report` counts
    them, and rows that do not count. Raises ValueError for arguments.
    """
    path = Path(path)
    columns = dict(columns or {})
    column_names.check(columns)
    try:
        zone: tzinfo = UTC if timezone == "UTC" else time_zone(timezone)
    except ValueError as error:
        raise ValueError(f"timezone: {error}") from error
    if currency is not None:
        try:
            currency = parse_currency(currency)
        except ValueError as error:
            raise ValueError(f"currency: {currency!r}: {error}") from error
    file_format(path)
    if not path.is_file():
        raise InputFileError(path, None, "there is no such file")
    known = None if shop is None else SHOPS.get(shop)
    if shop is not None and known is None:
        raise ValueError(f"shop: {shop!r} is not one of {', '.join(SHOPS)}")
    if known is not None and line_items:
        raise ValueError("line_items: the line items of a shop's export are known; leave it out")
    try:
        meant = {plain_status(name): Standing(each) for name, each in (statuses or {}).items()}
    except ValueError as error:
        raise ValueError(
            f"statuses: {error}; allowed: {', '.join(each.value for each in Standing)}"
        ) from error
    dialect = Dialect(
        UTC if known is not None and known.utc else zone,
        currency,
        now,
        known,
        meant,
        ignore_status,
        decimal == "comma",
    )
    reader = _Reader(
        path,
        columns,
        dialect,
        source or DEFAULT_SOURCE,
        FileReport() if report is None else report,
        line_items=line_items,
    )
    return reader.events(publish_refused=errors == "publish")


class _Reader:
    """Turns the rows of one file into events."""

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        dialect: Dialect,
        source: str,
        report: FileReport,
        *,
        line_items: bool,
    ) -> None:
        self._path = path
        self._dialect = dialect
        self._source = source
        self._report = report
        self._firsts: set[int] = set()
        """The hashes of the orders whose first row was met, where others follow it."""
        self._items_of: dict[str, int] = {}
        """Orders of which only other rows were met, and the line of the first one."""
        self._cells = CellReader(path, columns, dialect)
        self._ids = OrderIds()
        self._one_row_each = OneRowEach(path)
        self._line_items = LineItems(path) if line_items else None
        self._latest = datetime.fromtimestamp(0, UTC)

    def events(self, *, publish_refused: bool) -> Iterator[OutgoingEvent]:
        """Read the file from its beginning to its end, once."""
        for events, problems in self._read():
            if problems:
                first = problems[0]
                if not publish_refused:
                    raise InputFileError(self._path, first.line, first.text)
                where = f"{self._path.name}:{first.line}"
                self._report.refused.add(first.field, where, first.text)
            for event in events:
                self._latest = event.time
                yield event

    def _read(self) -> Iterator[tuple[list[OutgoingEvent], list[Problem]]]:
        for row in read_rows(self._path):
            if row.raw is not None and (row.problem or "specversion" in row.values):
                problems = [Problem(row.line, "row", row.problem)] if row.problem else []
                event = passed_on(row, row.raw, problems, self._dialect, self._latest)
                yield [event], problems
                continue
            cells = self._cells.read(row)
            if self._line_items is not None:
                self._line_items.add(cells)
            elif not self._is_further_item(cells):
                yield self._order(cells)
        if self._line_items is not None:
            yield from map(self._order, self._line_items.orders())
        for order_id, line in self._items_of.items():
            raise InputFileError(
                self._path,
                line,
                f"a line item of order {order_id!r}, whose first row, with amount and status, is "
                "not in the file; export the order whole",
            )

    def _is_further_item(self, cells: Cells) -> bool:
        """Whether a row is a further line item of an order, whose first row says everything."""
        shop, values = self._dialect.shop, cells.values
        if shop is None or not shop.line_items:
            return False
        order_id = values.get("order_id", "")
        if not order_id or "amount" in values:
            self._firsts.add(hash(order_id))
            self._items_of.pop(order_id, None)
            return False
        if hash(order_id) not in self._firsts:
            self._items_of.setdefault(order_id, cells.line)
        return True

    def _order(self, cells: Cells) -> tuple[list[OutgoingEvent], list[Problem]]:
        if cells.standing is Standing.UNPAID:
            self._report.uncounted[cells.values["status"]] += 1
            return [], []
        if "order_id" not in cells.values:
            cells.values["order_id"] = self._ids.of(cells)
        elif self._line_items is None:
            self._one_row_each.check(cells)
        return events_of(cells, self._source, self._latest), cells.problems
