"""How much one poll takes, and how much may be in work: bytes, not only records.

A poll takes up to `max_poll_records` records of any size, and as many batches wait for an agent as
its buffer holds. Without a bound in bytes a few unpacked batches would fill a worker's memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from aiokafka.consumer import fetcher

POLL_BYTES: Final = 32 * 1024 * 1024
"""Bytes of records that a poll takes from all partitions; the record that exceeds them ends it."""

IN_WORK_BYTES: Final = 32 * 1024 * 1024
"""While batches of so many bytes are in work, nothing more is polled."""

HEADER_BYTES: Final = 72
"""What a header takes beside its content: most in memory, though two bytes in a batch."""


def weight(record: Any) -> int:
    """Bytes of a record's key, value and headers, as they are held."""
    size = len(record.key or b"") + len(record.value or b"")
    return size + header_weight(record.headers) if record.headers else size


def header_weight(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Bytes of headers."""
    return sum(HEADER_BYTES + len(name) + len(content or b"") for name, content in headers)


class _Portion:
    """What the poll under way may still take."""

    def __init__(self, left: int) -> None:
        self.left = left


_portion: ContextVar[_Portion | None] = ContextVar("portion", default=None)


@contextmanager
def portion(size: int) -> Iterator[None]:
    """Let what is fetched here take so many bytes, and leave the rest for the next time."""
    token = _portion.set(_Portion(size))
    try:
        yield
    finally:
        _portion.reset(token)


_take_all = fetcher.FetchResult.getall


def _take(result: Any, max_records: int | None = None) -> list[Any]:
    """aiokafka's `FetchResult.getall`, which ends where the portion does."""
    budget = _portion.get()
    if budget is None:
        return _take_all(result, max_records)  # type: ignore[no-any-return]
    if budget.left <= 0:
        # Still buffered, and taken next time.
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
    """Have aiokafka's consumers heed portions; without one they are as before."""
    fetcher.FetchResult.getall = _take
