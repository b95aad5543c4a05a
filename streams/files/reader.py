"""A file of orders becomes events."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Literal
from zlib import crc32
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from models.contracts import TOPIC_OF_TYPE
from models.documents import CONTENT_TYPE
from streams.files import columns as column_names
from streams.files.errors import InputFileError
from streams.files.outgoing import (
    OutgoingEvent,
    cloud_event,
    encode_json,
)
from streams.files.rows import Row, file_format, read_rows
from streams.files.values import (
    Amount,
    is_empty,
    parse_amount,
    parse_currency,
    parse_revision,
    parse_time,
    text_of,
)

DEFAULT_SOURCE = "/files"
"""One for all files: exports that overlap then say the same order twice, which counts once."""

AMOUNTS = ("amount", "cost_of_goods")
NO_CURRENCY = "there is no currency: name one for the whole file, such as EUR, or add a column"


def read_orders(
    path: str | Path,
    columns: Mapping[str, str] | None = None,
    currency: str | None = None,
    source: str | None = None,
    *,
    timezone: str = "UTC",
    errors: Literal["raise", "publish"] = "raise",
) -> Iterator[OutgoingEvent]:
    """Return the events of a CSV, JSONL (both also .gz) or Parquet file, in the file's order.

    A row is one whole order: customer_id, time (or date), amount, and optionally order_id, currency
    (else `currency`), cost_of_goods, channel, revision. `columns` maps these names to the file's
    headers; usual headers are known (`columns.FIELDS`).

    - A date without a time is noon, and a time without an offset is local, in `timezone`.
    - order_id is "<file stem>-<line>" when the file has none. Order ids are scoped by `source`
      ("/files"): give each shop its own.
    - A negative amount is an order.refunded without an order, its id taken as the refund's; a zero
      is an order. More than 4 decimals are rounded half to even.
    - The event id depends on the row's content: the same row, loaded again, counts once.
    - A line of JSONL with a "specversion" is a CloudEvent, passed on byte for byte.

    Raises InputFileError, with line and column, for a file or row that makes no event;
    errors="publish" passes such rows on as they are, for the service to refuse. Raises ValueError
    for arguments.
    """
    path = Path(path)
    columns = dict(columns or {})
    column_names.check(columns)
    try:
        zone: tzinfo = UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"timezone: {timezone!r} is not a name such as Europe/Berlin") from error
    if currency is not None:
        try:
            currency = parse_currency(currency)
        except ValueError as error:
            raise ValueError(f"currency: {currency!r}: {error}") from error
    file_format(path)
    if not path.is_file():
        raise InputFileError(path, None, "there is no such file")
    reader = _Reader(path, columns, zone, currency=currency, source=source or DEFAULT_SOURCE)
    return reader.events(publish_refused=errors == "publish")


class _Reader:
    """Turns the rows of one file into events."""

    def __init__(
        self,
        path: Path,
        columns: Mapping[str, str],
        zone: tzinfo,
        *,
        currency: str | None,
        source: str,
    ) -> None:
        self.path = path
        self.stem = path.name.split(".")[0]
        self.columns = columns
        self.currency = currency
        self.source = source
        self.parsers: Mapping[str, Callable[[object], object]] = {
            "customer_id": text_of,
            "time": partial(parse_time, zone=zone),
            "amount": parse_amount,
            "order_id": text_of,
            "currency": parse_currency,
            "cost_of_goods": parse_amount,
            "channel": text_of,
            "revision": parse_revision,
        }
        self.headers: dict[tuple[str, ...], Mapping[str, str]] = {}
        self.last = ("", "", 0)
        self.latest = datetime.fromtimestamp(0, UTC)

    def events(self, publish_refused: bool) -> Iterator[OutgoingEvent]:
        for row in read_rows(self.path):
            problems = [row.problem] if row.problem else []
            if row.raw is not None and (problems or "specversion" in row.values):
                event = self._passed_on(row.raw, row.values, problems)
            else:
                event = self._order(row, problems)
            if problems and not publish_refused:
                raise InputFileError(self.path, row.line, problems[0])
            self.latest = event.time
            yield event

    def _header_of(self, row: Row) -> Mapping[str, str]:
        """Return the header of each field; JSONL lines may differ from each other."""
        found = tuple(row.values)
        resolved = self.headers.get(found)
        if resolved is None:
            resolved = self.headers[found] = column_names.resolve(found, self.columns)
            if row.raw is None:
                lacking = column_names.missing(resolved, found, self.columns)
                if lacking:
                    raise InputFileError(self.path, None, lacking)
                if "currency" not in resolved and self.currency is None:
                    raise InputFileError(self.path, None, NO_CURRENCY)
        return resolved

    def _order(self, row: Row, problems: list[str]) -> OutgoingEvent:
        """Return the row's event; what cannot be parsed stays as it is and is a problem."""
        header_of = self._header_of(row)
        cells: dict[str, Any] = {}
        for field, header in header_of.items():
            value = row.values.get(header)
            if is_empty(value):
                continue
            try:
                cells[field] = self.parsers[field](value)
            except ValueError as error:
                problems.append(f"{field} (column {header!r}) is {value!r}: {error}")
                cells[field] = Amount(str(value), False) if field in AMOUNTS else str(value)
        for field in column_names.REQUIRED:
            if field not in cells:
                column = header_of.get(field)
                what = f"column {column!r} is empty" if column else "there is no such field"
                problems.append(f"{field}: {what}; every row needs it")
        if "currency" not in cells:
            cells["currency"] = self.currency
            if self.currency is None:
                problems.append(NO_CURRENCY)
        has_own_id = "order_id" in cells and "revision" not in cells
        order_id = cells.setdefault("order_id", f"{self.stem}-{row.line}")

        event_type, data = _event_data(cells, problems)
        event_id = f"{order_id}-{crc32(encode_json(data)):08x}"
        if has_own_id:
            self._one_row_is_one_order(order_id, event_id, row.line)
        time = cells.get("time")
        return cloud_event(
            "orders",
            event_type,
            source=self.source,
            event_id=event_id,
            time=time if isinstance(time, datetime) else self.latest,
            data=data,
            customer_id=cells.get("customer_id"),
        )

    def _one_row_is_one_order(self, order_id: str, event_id: str, line: int) -> None:
        """Refuse line items: the service would take them for one order, said again and again."""
        last_order, last_event, last_line = self.last
        self.last = (order_id, event_id, line)
        if order_id == last_order and event_id != last_event:
            raise InputFileError(
                self.path,
                line,
                f"order {order_id!r} stands on line {last_line} too, with other values: one row "
                "must be one whole order; sum its lines, or number its versions in a column "
                "revision",
            )

    def _passed_on(
        self, raw: bytes, values: Mapping[str, object], problems: list[str]
    ) -> OutgoingEvent:
        """Return the line as it is, with the topic of its type and its customer as key."""
        data = values.get("data")
        if not isinstance(data, dict):
            data = {}
        event_type = str(values.get("type"))
        topic = TOPIC_OF_TYPE.get(event_type)
        customer_id = data.get("customer_id") or values.get("partitionkey")
        time = values.get("time") or next(
            (value for name, value in data.items() if name.endswith("_at")), None
        )
        at = None
        if not problems:
            try:
                at = parse_time(time, UTC)
            except ValueError as error:
                problems.append(f"time is {time!r}: {error}")
            if topic is None:
                problems.append(f"type is {event_type!r}; allowed: {', '.join(TOPIC_OF_TYPE)}")
            if not isinstance(customer_id, str):
                problems.append(
                    "the event names no customer: add data.customer_id or, where the type has "
                    "none, the attribute partitionkey"
                )
        key = customer_id.encode() if isinstance(customer_id, str) else None
        return OutgoingEvent(topic or "orders", key, raw, [CONTENT_TYPE], at or self.latest)


def _event_data(cells: Mapping[str, Any], problems: list[str]) -> tuple[str, dict[str, object]]:
    """Return the event type and its data, without the fields that are absent."""
    amount = cells.get("amount", Amount("", False))
    cost = cells.get("cost_of_goods", Amount(None, False))
    data = {"customer_id": cells.get("customer_id"), "currency": cells["currency"]}
    if amount.negative:
        event_type = "order.refunded"
        data |= {
            "refund_id": cells["order_id"],
            "amount": amount.text,
            "refunded_at": cells.get("time", ""),
            "cost_recovered": cost.text,
        }
    else:
        event_type = "order.placed"
        data |= {
            "order_id": cells["order_id"],
            "total": amount.text,
            "placed_at": cells.get("time", ""),
            "cost_of_goods": f"-{cost.text}" if cost.negative else cost.text,
            "channel": cells.get("channel"),
            "revision": cells.get("revision"),
        }
        if cost.negative:
            problems.append(f"cost_of_goods is -{cost.text}, but the amount is not negative")
    return event_type, {name: value for name, value in data.items() if value is not None}
