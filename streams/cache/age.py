"""How old a mark may be before tombstones after it may be gone from the log."""

import time

from streams.topics import TOMBSTONES_STAY_MS

TRUSTED_MS = TOMBSTONES_STAY_MS // 2
"""The other half is for clocks that differ, and for the catch-up itself."""

AHEAD_MS = 3600 * 1000
"""A time further ahead was written by a clock that is wrong, and says nothing."""


def now_ms() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    return time.time_ns() // 1_000_000


def oldest_trusted(now: int) -> int:
    """Return the oldest time from which a mark can be trusted."""
    return now - TRUSTED_MS


def is_trusted(since: int | None, now: int) -> bool:
    """Say whether every tombstone after a mark is still in the log.

    A tombstone goes when the log is compacted, but not before `delete.retention.ms` have passed
    since it was written. since: when everything published was in Redis up to the mark; None: nobody
    knows.
    """
    return since is not None and oldest_trusted(now) <= since <= now + AHEAD_MS
