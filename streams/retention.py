"""Topic configurations: retention and compaction, as used by the plan of topics."""

from __future__ import annotations

from collections.abc import Mapping

Config = Mapping[str, str]

DAY_MS = 24 * 3600 * 1000

TOMBSTONES_STAY_MS = DAY_MS
"""A reader who is never further behind than this sees every tombstone."""

COMPACTED_WITHIN_MS = DAY_MS
"""Replaced and deleted records are compacted away after this time, at the next write to the
partition. Without it, an erased customer's record might stay for ever."""

SEGMENT_MS = DAY_MS
"""Retention deletes whole segments, so a record may stay this much longer than the retention."""

COMPACT: Config = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(TOMBSTONES_STAY_MS),
    "max.compaction.lag.ms": str(COMPACTED_WITHIN_MS),
    # The newest segment is never compacted: small segments bound what a recovery reads.
    "segment.bytes": str(64 * 1024 * 1024),
}
"""The last record of each key."""

KEEP: Config = {"cleanup.policy": "delete", "retention.ms": "-1"}
"""Everything, for ever."""

# Retention counts from the time of writing: in a replay an event's own time may be years ago.
_EXPIRE = {"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"}
MONTH: Config = _EXPIRE | {"retention.ms": str(30 * DAY_MS), "segment.ms": str(SEGMENT_MS)}
LARGE: Config = {"max.message.bytes": str(4 * 1024 * 1024)}
"""Records of up to 4 MiB."""
