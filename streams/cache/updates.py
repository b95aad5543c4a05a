"""What the cache needs of the topic of value updates; `catch_up.py` reads it from Kafka."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import structlog

from streams.cache.score import CachedScore, Item, Removal, score_of_document

log = structlog.get_logger(__name__)

VERSION_HEADER = "clv-version"
"""Header of a tombstone: the version at which the customer was forgotten, in decimal digits."""


class UpdatesUnavailable(Exception):
    """The updates cannot be read now; the text says where and why."""


class Published(NamedTuple):
    """One record of the updates."""

    offset: int
    item: Item


class Fetched(NamedTuple):
    """Records of a partition in their order; the offset after them; the partition's end.

    end: None while the broker has not said.
    """

    records: Sequence[Published]
    position: int
    end: int | None


class Cursor(Protocol):
    """A place in one partition."""

    async def seek(self, partition: int, offset: int | None) -> None:
        """Go to an offset of a partition; None: to its beginning."""

    async def read(self) -> Fetched:
        """Read on, waiting a moment where nothing is left."""


class Updates(Protocol):
    """The topic of value updates; its methods and its cursors' raise UpdatesUnavailable."""

    def open(self) -> AbstractAsyncContextManager[Cursor]:
        """A cursor, closed at the end."""


def item_of_record(
    where: str,
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
) -> Item | None:
    """Return the score or the removal that a record is; None, and a warning, when it is neither.

    where: topic[partition]@offset.
    """
    try:
        return _item(key, value, headers)
    except ValueError as error:
        log.warning("cache_update_skipped", where=where, error=str(error))
        return None


def _item(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> CachedScore | Removal:
    if value is not None:
        return score_of_document(value)
    version = dict(headers).get(VERSION_HEADER)
    if key is None or version is None:
        raise ValueError(
            f"a tombstone needs a key and the header {VERSION_HEADER}, so that it cannot take out "
            "a newer score; publish it with both"
        )
    return Removal(key.decode(), int(version))
