"""Looking for a customer's ids in Redis, in copies on disk, and in recordings and exports."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from streams.bounded import GZIP, opened
from streams.cache.keys import CacheKeys
from streams.erasing.lifetime import Until
from streams.erasing.seeking import Seeker
from streams.erasing.trace import Trace
from streams.recording import Recording, RecordingUnusable

_CHUNK = 4 * 1024 * 1024
_SCAN_COUNT = 1_000

NOTE_MS = 7 * 24 * 3_600_000
"""How long Redis notes that a customer was removed: NOTE_MILLISECONDS of remove.lua."""


async def in_redis(redis: Redis, prefix: str, seeker: Seeker, now: int) -> list[Trace]:
    """The traces in the cache under a prefix; errors: RedisError."""
    keys = CacheKeys(prefix)
    traces = []
    stays = Until(None, "a worker removes it: see whether one runs, and its health")
    for each in seeker.ids:
        if await redis.exists(keys.customer(each)):
            traces.append(Trace(keys.customer(each), "the cached score", stays, (each,)))
        if await redis.zscore(keys.ranking, each) is not None:
            traces.append(Trace(keys.ranking, "a place in the ranking", stays, (each,)))
        old = f"{prefix}:forgotten:{hashlib.sha1(each.encode(), usedforsecurity=False).hexdigest()}"
        if await redis.exists(old):
            until = Until(now + NOTE_MS, "Redis lets it expire after seven days")
            traces.append(Trace(old, "a plain hash of the id, by a former version", until, (each,)))
    scan = redis.scan_iter(match=keys.segment_pattern, count=_SCAN_COUNT)
    for key in sorted({key.decode() async for key in scan}):
        member: Any = await redis.smismember(key, list(seeker.ids))
        ids = tuple(each for each, is_in in zip(seeker.ids, member, strict=True) if is_in)
        if ids:
            traces.append(Trace(key, "a member of a segment", stays, ids))
    return traces


def in_directory(directory: Path, seeker: Seeker) -> list[Trace]:
    """The traces in all files below a state directory; errors: OSError."""
    stays = Until(
        None,
        "a worker that runs writes its copy anew within a minute, one that does not at its next "
        "start; what no worker uses any more: remove it",
    )
    found = (
        (path, _ids_in(path, seeker)) for path in sorted(directory.rglob("*")) if path.is_file()
    )
    return [Trace(str(path), "a copy on disk", stays, ids) for path, ids in found if ids]


def in_file(path: Path, seeker: Seeker) -> Trace | None:
    """The trace in a recording, an export or any other file; errors: OSError, RecordingUnusable."""
    stays = Until(None, "no worker knows of this file: remove it, or record again with pseudonyms")
    ids = _ids_in(path, seeker)
    return Trace(str(path), "a file that was named", stays, ids) if ids else None


def _ids_in(path: Path, seeker: Seeker) -> tuple[str, ...]:
    found: frozenset[str] = frozenset()
    for part in _contents(path, overlap=max(len(each.encode()) for each in seeker.ids) * 6 + 8):
        found |= seeker.within(part)
    return seeker.in_order(found)


def _contents(path: Path, overlap: int) -> Iterator[bytes]:
    """What a file says, unpacked where it is packed; parts overlap by so many bytes."""
    try:
        recording = Recording(path)
    except RecordingUnusable:
        pass
    else:
        for record in recording.records():
            yield record.key or b""
            yield record.value or b""
            for name, content in record.headers:
                yield name.encode()
                yield content or b""
        return
    with path.open("rb") as plain:
        packed = plain.read(len(GZIP)) == GZIP
    with opened(path, packed=packed) as file:
        before = b""
        try:
            while chunk := file.read(_CHUNK):
                yield before + chunk
                before = chunk[-overlap:]
        except (EOFError, zlib.error) as error:
            raise OSError(f"{path} cannot be read to its end: {error}") from error
