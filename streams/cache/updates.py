"""What the cache needs of the topic of value updates; `catch_up.py` reads it from Kafka."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import structlog

from streams.cache.score import Item, Removal, score_of_document

log = structlog.get_logger(__name__)


class UpdatesUnavailable(Exception):
    """The updates cannot be read now; the text says where and why."""


class Fetched(NamedTuple):
    """What was published, in its order; the offset after it; the partition's end.

    end: None while the broker has not said.
    """

    items: Sequence[Item]
    position: int
    end: int | None


class Cursor(Protocol):
    """A place in one partition."""

    async def seek(self, partition: int, offset: int | None) -> None:
        """Go to an offset of a partition; None: to its beginning."""

    async def read(self) -> Fetched:
        """Read on, waiting a moment where nothing is left."""

    async def partitions(self) -> int:
        """Return how many partitions the topic has; to be asked once something was read."""


class Updates(Protocol):
    """The topic of value updates; its methods and its cursors' raise UpdatesUnavailable."""

    def open(self) -> AbstractAsyncContextManager[Cursor]:
        """A cursor, closed at the end."""


def item_of_record(
    partition: str, offset: int, key: bytes | None, value: bytes | None
) -> Item | None:
    """Return the score or the removal that a record is; None, and a warning, when it is neither.

    partition: topic[partition].
    """
    try:
        return _item(offset, key, value)
    except ValueError as error:
        log.warning("cache_update_skipped", where=f"{partition}@{offset}", error=str(error))
        return None


def _item(offset: int, key: bytes | None, value: bytes | None) -> Item:
    if value is not None:
        return score_of_document(offset, value)
    if key is None:
        raise ValueError("a tombstone needs the customer's id as its key; publish it with one")
    return Removal(key.decode(), offset)
