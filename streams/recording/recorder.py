"""From topics at the broker to a recording."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from models.errors import ClvError
from streams.recording.customers import OfCustomers, some_of
from streams.recording.format import End, Head, Progress
from streams.recording.live import Bound, LiveSlice, Waiting
from streams.recording.pseudonyms import Pseudonyms
from streams.recording.writer import recording_writer

OTHERS = "about other customers"
"""Why a record is not in a recording of some customers."""


class NothingRecorded(ClvError):
    """No record was about the customers that were asked for; the text says what was read."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was recorded.

    waiting: where an open transaction was the end. absent: customers that were asked for, and that
    no record is about.
    """

    head: Head
    end: End
    waiting: tuple[Waiting, ...]
    bytes: int
    absent: tuple[str, ...] = ()


async def record_slice(
    path: Path,
    live: LiveSlice,
    since: Bound,
    until: Bound,
    *,
    customers: OfCustomers | None = None,
    pseudonyms: Pseudonyms | None = None,
    progress: Progress = lambda _done, _total: None,
) -> Taken:
    """Write a slice to a file, which is there once it is complete.

    Errors: KafkaError, OSError; NothingRecorded if customers are given and no record is kept, which
    leaves no file.
    """
    head = Head(
        recorded_at=time.time_ns() // 1_000_000,
        topics=live.topics,
        spans=live.spans,
        since=since.words,
        until=until.words,
        customers=None if customers is None else len(customers),
        pseudonyms=pseudonyms is not None,
    )
    roles = [topic.role for topic in live.topics]
    left_out: Counter[str] = Counter()
    live.progress = progress
    with recording_writer(path, head) as writer:
        async for record in live.records():
            role = roles[record.topic]
            if customers is not None and not customers.concern(role, record):
                left_out[OTHERS] += 1
                continue
            kept = record if pseudonyms is None else pseudonyms.record(role, record)
            if kept is not None:
                writer.add(kept)
        if pseudonyms is not None:
            left_out += pseudonyms.left_out
        if customers is not None and not writer.records:
            raise NothingRecorded(_nothing(head, customers, left_out))
        absent, apart = ((), ()) if customers is None else (customers.absent, customers.apart)
        if pseudonyms is not None:
            apart = tuple(map(pseudonyms.of, apart))
        end = writer.finish(left_out, apart)
    progress(live.total, live.total)
    return Taken(head, end, tuple(live.waiting), writer.size, absent)


def _nothing(head: Head, customers: OfCustomers, left_out: Counter[str]) -> str:
    """Why a recording of some customers would be empty, in words."""
    topics = ", ".join(topic.name for topic in head.topics)
    absent = customers.absent
    why = f"none is about {some_of(absent)}" if absent else "none can be kept"
    reasons = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(left_out.items()))
    return (
        f"nothing was recorded, and no file was written: of {left_out.total():,} records in "
        f"{topics}, from {head.since} to {head.until}, {why}" + (f" ({reasons})" if reasons else "")
    )
