"""How old a mark may be: later, tombstones after it may be gone from the log."""

import time

from streams.retention import TOMBSTONES_STAY_MS

TRUSTED_MS = TOMBSTONES_STAY_MS // 2
"""Half of the time that tombstones stay; the rest allows for clock differences and the catch-up."""

AHEAD_MS = 3600 * 1000
"""A time further ahead was written by a wrong clock, and is ignored."""


def now_ms() -> int:
    """Milliseconds since 1970, by this machine's clock."""
    return time.time_ns() // 1_000_000


def oldest_trusted(now: int) -> int:
    """Return the oldest time from which a mark can be trusted."""
    return now - TRUSTED_MS


def is_trusted(since: int | None, now: int) -> bool:
    """Return whether every tombstone after a mark is still in the log.

    Compaction removes a tombstone, but not before `delete.retention.ms` have passed since it was
    written. since: when Redis had everything published up to the mark; None: unknown.
    """
    return since is not None and oldest_trusted(now) <= since <= now + AHEAD_MS
