"""Lua scripts of the cache, run by their digest and loaded when Redis does not know them."""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

Argument = str | int | bytes
# A restart and a flush can each meet one attempt; more than that is not chance.
_ATTEMPTS = 3


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

        After a restart or flush of Redis the script is loaded and the calls that missed it run
        again, so a script must bear that its calls run in another order. A reply is the error where
        Redis refused the call. Errors: RedisError when it cannot be asked.
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
