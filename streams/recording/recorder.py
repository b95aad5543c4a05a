"""From topics at the broker to a recording."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from streams.recording.bounds import Bound
from streams.recording.customers import OfCustomers
from streams.recording.format import End, Head
from streams.recording.live import LiveSlice, Waiting
from streams.recording.pseudonyms import Pseudonyms
from streams.recording.writer import RecordingWriter

REPORT_EVERY = 1_000

Progress = Callable[[int, int], None]
"""Called with the offsets read so far, and those there are."""

OTHERS = "about other customers"
"""Why a record is not in a recording of some customers."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was recorded; waiting: where an open transaction was the end."""

    head: Head
    end: End
    waiting: tuple[Waiting, ...]
    bytes: int


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
    """Write a slice to a file, which is there once it is complete; errors: KafkaError, OSError."""
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
    with RecordingWriter(path, head) as writer:
        number = 0
        async for record in live.records():
            number += 1
            if number % REPORT_EVERY == 0:
                progress(live.done, live.total)
            role = roles[record.topic]
            if customers is not None and not customers.concern(role, record):
                left_out[OTHERS] += 1
                continue
            kept = record if pseudonyms is None else pseudonyms.record(role, record)
            if kept is not None:
                writer.add(kept)
        if pseudonyms is not None:
            left_out += pseudonyms.left_out
        end = writer.finish(left_out)
    progress(live.total, live.total)
    return Taken(head, end, tuple(live.waiting), writer.size)
