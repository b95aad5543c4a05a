"""Lua scripts, run by their digest, and loaded if Redis does not know them; scans of keys."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

Argument = str | int | bytes
# A restart and a flush can each hit one attempt; more failures are no chance.
_ATTEMPTS = 3

SCAN_COUNT = 1_000
"""Keys that Redis looks at in a step of a scan."""


class Script:
    """One script, put together from files of this package."""

    def __init__(self, *files: str) -> None:
        folder = resources.files(__package__)
        self._source = "\n".join((folder / file).read_text(encoding="utf-8") for file in files)
        digest = hashlib.sha1(self._source.encode(), usedforsecurity=False)
        self._sha = digest.hexdigest()

    async def run(
        self, redis: Redis, keys: Sequence[str], calls: Sequence[Sequence[Argument]]
    ) -> list[Any]:
        """Run the script once for each list of arguments, in order and in one round trip.

        After a restart or flush of Redis the script is loaded, and the calls that missed it run
        again; so a script must allow its calls to run in another order. The reply of a refused call
        is the error. Errors: RedisError if Redis does not answer.
        """
        replies: list[Any] = [None] * len(calls)
        missed = list(range(len(calls)))
        for attempt in range(_ATTEMPTS):
            pipeline = redis.pipeline(transaction=False)
            if attempt:
                pipeline.execute_command("SCRIPT LOAD", self._source)
            for index in missed:
                pipeline.execute_command("EVALSHA", self._sha, len(keys), *keys, *calls[index])
            answers = await pipeline.execute(raise_on_error=False)
            for index, answer in zip(missed, answers[-len(missed) :], strict=True):
                replies[index] = answer
            missed = [i for i in missed if isinstance(replies[i], NoScriptError)]
            if not missed:
                break
        return replies

    async def call(self, redis: Redis, key: str, arguments: Sequence[Argument]) -> Any:
        """Run the script once, and return its reply; raises RedisError also for a refused call."""
        [reply] = await self.run(redis, [key], [arguments])
        if isinstance(reply, RedisError):
            raise reply
        return reply


async def scan(redis: Redis, pattern: str) -> AsyncIterator[list[bytes]]:
    """Yield the keys that match a pattern, step by step; some may come twice."""
    cursor = -1
    while cursor:
        keys: Any
        cursor, keys = await redis.scan(max(cursor, 0), match=pattern, count=SCAN_COUNT)
        yield keys
