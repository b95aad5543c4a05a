"""The events of a recording, as those of a file are: each at the time that its data say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime

from models.acceptance import FUTURE_TOLERANCE
from models.calendar import milliseconds
from models.contracts import TYPES_OF_TOPIC, Refused, decode
from streams.files.outgoing import OutgoingEvent
from streams.recording.reader import Recording


def recorded_events(recording: Recording) -> Iterator[OutgoingEvent]:
    """Yield the events in their order, without parameters and ticks. Errors: RecordingUnusable.

    An event that cannot be accepted, because it is dated more than a day ahead of its arrival for
    instance, has the time of the one before it.
    """
    roles = [topic.role for topic in recording.head.topics]
    latest = datetime.fromtimestamp(0, UTC)
    for record in recording.records():
        role = roles[record.topic]
        if role not in TYPES_OF_TOPIC:
            continue
        with suppress(Refused):
            time = decode(record.key, record.value, record.headers).data.occurred_at
            if milliseconds(time) <= record.timestamp + FUTURE_TOLERANCE:
                latest = time
        headers = [(name, content or b"") for name, content in record.headers]
        value = record.value or b""
        yield OutgoingEvent(role, record.key, value, headers, latest, arrived=record.timestamp)
