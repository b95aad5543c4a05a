"""What Redis holds of customers, as the API answers it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from models.calendar import milliseconds
from streams.cache import ScoreCache
from streams.cache.score import RankedCustomer


class _Version(msgspec.Struct):
    version: int
    as_of: datetime


class _Update(msgspec.Struct):
    id: str
    data: msgspec.Raw


_decode_update = msgspec.json.Decoder(_Update).decode
_decode_version = msgspec.json.Decoder(_Version).decode


class CustomerDocument(NamedTuple):
    """The data of a customer's published value update, JSON as published.

    version, as_of: as in it, with as_of in milliseconds since 1970; in silence only as_of grows.
    number: tells it from the customer's other updates.
    """

    version: int
    as_of: int
    data: bytes
    number: str


class Page(NamedTuple):
    """A part of a list: the customers' documents, and the last place; None if nothing follows."""

    documents: Sequence[bytes]
    last: RankedCustomer | None


def document(update: bytes) -> CustomerDocument:
    """Return the data of a value update."""
    of = _decode_update(update)
    data = bytes(of.data)
    which = _decode_version(data)
    number = of.id.rpartition("/")[2]
    return CustomerDocument(which.version, milliseconds(which.as_of), data, number)


class Scores:
    """Reads the cache; all methods raise RedisError while it is away."""

    def __init__(self, cache: ScoreCache) -> None:
        self._cache = cache

    async def customer(self, customer_id: str) -> CustomerDocument | None:
        """Return what was published of a customer last."""
        score = await self._cache.get(customer_id)
        return None if score is None else document(score.update)

    async def ranking(self, count: int, after: RankedCustomer | None) -> Page:
        """Return the next customers by value."""
        return await self._page(await self._cache.ranked(count + 1, after), count)

    async def members(self, dimension: str, segment: str, count: int, start: int) -> Page:
        """Return the next customers of a segment by value."""
        found = await self._cache.members(dimension, segment, start, count + 1)
        return await self._page(found, count)

    async def _page(self, found: Sequence[RankedCustomer], count: int) -> Page:
        here = found[:count]
        updates = await self._cache.updates([each.customer_id for each in here])
        # Who was removed between the two questions is left out.
        documents = [document(update).data for update in updates if update is not None]
        return Page(documents, here[-1] if len(found) > count else None)

    async def dimensions(self) -> list[str]:
        """Return the names of the dimensions: those of the customer of the highest value."""
        scores = [await self._cache.get(each.customer_id) for each in await self._cache.top(1)]
        return [name for score in scores if score is not None for name, _ in score.segments]

    async def segments(self) -> dict[str, Any]:
        """Return customers and value by dimension and segment."""
        return {
            dimension: {
                segment: {"customers": each.customers, "value": float(each.value)}
                for segment, each in (await self._cache.totals(dimension)).items()
            }
            for dimension in await self.dimensions()
        }

    async def size(self) -> int:
        """Return how many customers there are."""
        return await self._cache.size()
