"""Customers by value who fulfil what a person asks for: a part of them, or all for a file."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from streams.cache import ScoreCache
from streams.cache.score import RankedCustomer

_PLACES: Final = 1_000
"""Places of the ranking that are looked at together: some milliseconds of Redis."""

MOST_PLACES: Final = 100_000
"""Places that one page looks at; behind them the next page goes on."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")

Data = Mapping[str, Any]
"""`data` of a published value update."""


class Asked(NamedTuple):
    """Which customers, and in which order.

    within: pairs of dimension and segment. least, most: value in the reporting currency.
    """

    within: tuple[tuple[str, str], ...] = ()
    least: float | None = None
    most: float | None = None
    rising: bool = False


class Rows(NamedTuple):
    """A part of a list. next: the place at which it goes on; None at its end."""

    customers: Sequence[Data]
    next: int | None


async def rows(cache: ScoreCache, asked: Asked, start: int, count: int) -> Rows:
    """Return the next customers from a place of the ranking on. Errors: RedisError."""
    found: list[str] = []
    place, end = await _first_place(cache, asked, start), start + MOST_PLACES
    while place < end:
        looked, customers = await cache.walk(place, _PLACES, asked.within, rising=asked.rising)
        for at, each in customers:
            if _beyond(asked, each):
                return Rows(await _documents(cache, found), None)
            if len(found) == count:
                return Rows(await _documents(cache, found), at)
            found.append(each.customer_id)
        place += looked
        if looked < _PLACES:
            return Rows(await _documents(cache, found), None)
    return Rows(await _documents(cache, found), place)


async def exported(cache: ScoreCache, asked: Asked) -> AsyncIterator[str]:
    """Yield all customers as CSV, a part of the file at a time. Errors: RedisError."""
    place: int | None = 0
    dimensions: list[str] = []
    head = True
    while place is not None:
        part = await rows(cache, asked, place, _PLACES)
        if head:
            dimensions = list(part.customers[0]["segments"]) if part.customers else []
            yield csv_lines([[*_COLUMNS, *dimensions]])
            head = False
        yield csv_lines(_cells(part.customers, dimensions))
        place = part.next


async def _first_place(cache: ScoreCache, asked: Asked, start: int) -> int:
    """Return where the first customer within the bounds of value is, or the place to go on at."""
    bound = asked.least if asked.rising else asked.most
    if bound is None or start:
        return start
    if asked.rising:
        (below,) = await cache.counts_below([bound])
        return below
    return await cache.count_above(bound)


def _beyond(asked: Asked, customer: RankedCustomer) -> bool:
    if asked.rising:
        return asked.most is not None and customer.clv > asked.most
    return asked.least is not None and customer.clv < asked.least


async def _documents(cache: ScoreCache, customer_ids: Sequence[str]) -> list[Data]:
    # Who was removed between the two questions is left out.
    updates = await cache.updates(customer_ids)
    return [msgspec.json.decode(update)["data"] for update in updates if update is not None]


_COLUMNS: Final[dict[str, Callable[[Data], Any]]] = {
    "customer_id": lambda data: safe_cell(data["customer_id"]),
    "value": lambda data: f"{data['clv']:.2f}",
    "realised": lambda data: f"{data['realised']['total']:.2f}",
    "expected": lambda data: f"{data['expected']['total']:.2f}",
    "currency": lambda data: data["currency"],
    "p_purchase": lambda data: "" if data["p_purchase"] is None else f"{data['p_purchase']:.4f}",
    "orders": lambda data: data["totals"]["orders"],
    "gross": lambda data: f"{data['totals']['gross']:.2f}",
    "as_of": lambda data: data["as_of"],
}


def _cells(customers: Iterable[Data], dimensions: Sequence[str]) -> Iterator[list[Any]]:
    for data in customers:
        segments = data["segments"]
        yield [
            *(cell(data) for cell in _COLUMNS.values()),
            *(safe_cell(segments.get(dimension, "")) for dimension in dimensions),
        ]


def safe_cell(text: str) -> str:
    """Return a text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def csv_lines(cells: Iterable[Sequence[Any]]) -> str:
    """Return rows of cells as CSV."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\r\n").writerows(cells)
    return written.getvalue()
