"""Readers of what the service publishes, parsed into its contracts."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from models.contracts.dead_letters import DeadLetter, split_headers
from models.contracts.outputs import (
    CustomerRemoval,
    CustomerRemoved,
    SegmentChange,
    SegmentChanged,
    ValueUpdate,
    ValueUpdated,
)
from models.errors import ClvError
from streams.testing.usage import Usage, awaited
from streams.transport.memory.broker import Record

Document = TypeVar("Document", bound=BaseModel)

Records = Callable[[], Awaitable[Sequence[Record]]]
"""All records of a topic, once everything has settled."""


class NotPublished(ClvError, AssertionError):
    """What the test asks for was not published; the text says what was."""


class Letter(DeadLetter):
    """A dead letter: why and where, and the record as it was."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]

    @classmethod
    def of(cls, record: Record) -> Letter | None:
        """Parse a record; None if it is not a dead letter, such as the note of a retry."""
        split = split_headers(record.headers)
        if split is None:
            return None
        why = DeadLetter.from_headers(record.headers)
        return cls(
            **why.model_dump(),
            key=record.key,
            value=record.value,
            headers=tuple(split.original),
        )


class _Reader(ABC, Generic[Document]):
    """Reads one kind of documents, in the order in which each customer's were published."""

    what = "document"

    def __init__(self, records: Records, usage: Usage) -> None:
        self._records = records
        self._usage = usage

    @awaited
    async def all(self, customer: str | None = None) -> list[Document]:
        """All of them, or all of a customer; repeats are included."""
        if customer is not None:
            self._usage.touch(customer)
        key = None if customer is None else customer.encode()
        records = await self._records()
        found = (self._parse(r) for r in records if key is None or r.key == key)
        return [document for document in found if document is not None]

    @awaited
    async def of(self, customer: str) -> list[Document]:
        """All of a customer."""
        return await self.all(customer)

    @abstractmethod
    def _parse(self, record: Record) -> Document | None:
        """Parse a record; None for one of another kind."""

    async def _last(self, customer: str | None) -> Document:
        found = await self.all(customer)
        if not found:
            whose = "" if customer is None else f" of {customer!r}"
            raise NotPublished(f"no {self.what}{whose} was published")
        return found[-1]


class Updates(_Reader[ValueUpdate]):
    """Value updates, of `clv.updates`."""

    what = "value update"

    @awaited
    async def last(self, customer: str) -> ValueUpdate:
        """A customer's current value; NotPublished if there is none or it was removed."""
        current = await self.current(customer)
        if customer not in current:
            if await self.all(customer):
                raise NotPublished(f"{customer!r} has no value any more: the last is a tombstone")
            raise NotPublished(f"no value update of {customer!r} was published")
        return current[customer]

    @awaited
    async def current(self, customer: str | None = None) -> dict[str, ValueUpdate]:
        """The current value of every customer, as a reader of the compacted topic has it."""
        if customer is not None:
            self._usage.touch(customer)
        key = None if customer is None else customer.encode()
        last: dict[bytes, Record] = {}
        for record in await self._records():
            if record.key is not None and (key is None or record.key == key):
                last[record.key] = record
        parsed = ((each.decode(), self._parse(last[each])) for each in sorted(last))
        return {name: update for name, update in parsed if update is not None}

    def _parse(self, record: Record) -> ValueUpdate | None:
        if record.value is None:
            return None
        return ValueUpdated.model_validate_json(record.value).data


class SegmentChanges(_Reader[SegmentChange]):
    """Changes of segment, of `clv.segment-changes`."""

    what = "change of segment"

    @awaited
    async def last(self, customer: str, dimension: str) -> SegmentChange:
        """The last change of one of a customer's segments; NotPublished where there is none."""
        found = await self.of(customer)
        for change in reversed(found):
            if change.dimension == dimension:
                return change
        others = ", ".join(f"{c.dimension}: {c.previous} to {c.current}" for c in found)
        raise NotPublished(
            f"no change of the {dimension} of {customer!r} was published; "
            f"published of this customer: {others or 'none'}"
        )

    def _parse(self, record: Record) -> SegmentChange | None:
        if record.value is None or _type(record.value) != "clv.segment-changed":
            return None
        return SegmentChanged.model_validate_json(record.value).data


class Removals(_Reader[CustomerRemoval]):
    """Customers who are gone, of `clv.segment-changes`."""

    what = "removal"

    @awaited
    async def last(self, customer: str) -> CustomerRemoval:
        """The last removal of a customer; NotPublished where there is none."""
        return await self._last(customer)

    def _parse(self, record: Record) -> CustomerRemoval | None:
        if record.value is None or _type(record.value) != "clv.customer-removed":
            return None
        return CustomerRemoved.model_validate_json(record.value).data


class DeadLetters(_Reader[Letter]):
    """Dead letters, of `clv.dead-letters`; their customer is the key that the record had."""

    what = "dead letter"

    @awaited
    async def last(self, customer: str | None = None) -> Letter:
        """The last dead letter, of a customer or of all; NotPublished where there is none."""
        return await self._last(customer)

    def _parse(self, record: Record) -> Letter | None:
        return Letter.of(record)


def _type(document: bytes) -> Any:
    return json.loads(document)["type"]
