"""The trace context of records: header `traceparent`, as of W3C Trace Context."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from models.outputs import Record

HEADER: Final = "traceparent"

NAMES: Final = (HEADER, "ce_traceparent")
"""Where publishers put it: as OpenTelemetry does, or as an attribute of a binary CloudEvent."""

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)


class TraceContext(NamedTuple):
    """A span of somebody else: 128 and 64 bits, neither 0, and the flags."""

    trace_id: int
    span_id: int
    flags: int


def parsed(header: bytes) -> TraceContext | None:
    """Read a header's value; None if it is none, which is ignored as the standard says."""
    found = _FORM.fullmatch(header)
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    return TraceContext(trace_id, span_id, int(found[4], 16)) if trace_id and span_id else None


def encoded(context: TraceContext) -> bytes:
    """Write a header's value."""
    return b"00-%032x-%016x-%02x" % context


def contexts(records: Iterable[Record], most: int) -> tuple[Sequence[TraceContext], int]:
    """Return the first different contexts of records, and how many values were not looked at."""
    values = dict.fromkeys(
        value for record in records for name, value in record.headers if name in NAMES
    )
    found: dict[TraceContext, None] = {}
    for number, value in enumerate(values):
        if len(found) == most:
            return list(found), len(values) - number
        if (each := parsed(value or b"")) is not None:
            found[each] = None
    return list(found), 0
