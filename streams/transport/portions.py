"""Limits in bytes of one poll, and of the batches in work.

A poll takes up to `max_poll_records` records of any size, and an agent's buffer holds many batches.
Without limits in bytes, a few unpacked batches would fill a worker's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from aiokafka.consumer import fetcher

POLL_BYTES: Final = 32 * 1024 * 1024
"""Bytes of records that a poll takes from all partitions; it ends with the record above that."""

IN_WORK_BYTES: Final = 32 * 1024 * 1024
"""Bytes in work from which on nothing more is polled."""

HEADER_BYTES: Final = 72
"""Memory of a header beside its content, in bytes; in a batch it can be two."""


def weight(record: Any) -> int:
    """Return the bytes that a record's key, value and headers take in memory."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + header_weight(record.headers) if record.headers else size


def header_weight(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Return the bytes that headers take in memory."""
    return sum(HEADER_BYTES + len(name) + len(content or b"") for name, content in headers)


class _Portion:
    """What the present poll may still take."""

    def __init__(self, left: int) -> None:
        self.left = left


_portion: ContextVar[_Portion | None] = ContextVar("portion", default=None)


@contextmanager
def portion(size: int) -> Iterator[None]:
    """Limit fetches in this context to so many bytes; the rest stays buffered."""
    token = _portion.set(_Portion(size))
    try:
        yield
    finally:
        _portion.reset(token)


_take_all = fetcher.FetchResult.getall


def _take(result: Any, max_records: int | None = None) -> list[Any]:
    """Replace aiokafka's `FetchResult.getall`: stop at the end of the portion."""
    budget = _portion.get()
    if budget is None:
        return _take_all(result, max_records)  # type: ignore[no-any-return]
    if budget.left <= 0:
        # The records stay buffered for the next poll.
        return []
    if not result.check_assignment(result._topic_partition) or not result.has_more():  # noqa: SLF001
        return []
    taken: list[Any] = []
    for record in result._partition_records:  # noqa: SLF001
        taken.append(record)
        budget.left -= weight(record)
        if budget.left <= 0 or (max_records is not None and len(taken) >= max_records):
            result._update_position()  # noqa: SLF001
            break
    else:
        result._update_position()  # noqa: SLF001
        result._partition_records = None  # noqa: SLF001
    return taken


def install() -> None:
    """Make aiokafka's consumers respect portions; outside of `portion` nothing changes."""
    fetcher.FetchResult.getall = _take
