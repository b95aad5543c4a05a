"""Waiting until a topology has done all that follows from what was published to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic

from faust.types import TP

from streams.testing.errors import NotSettled, WorkerCrashed
from streams.testing.worker import MemoryWorker, Surroundings

_QUICK_TURNS = 2_000
"""Turns of the event loop before it is looked at only now and then, for what waits for a timer."""

_STILL_TURNS = 300
"""Turns in which nothing changes while a fault is on: nothing will."""

_PAUSE_SECONDS = 0.002


class Settling:
    """Looks at workers and logs until nothing is left to do.

    seconds: of wall time without any progress after which it is given up.
    """

    def __init__(
        self, around: Surroundings, workers: Sequence[MemoryWorker], seconds: float
    ) -> None:
        self._around = around
        self._workers = workers
        self._seconds = seconds
        topics = around.settings.topics
        self._sources = [
            TP(topic, number) for topic in topics.sources for number in range(around.partitions)
        ]

    async def settle(self) -> None:
        """Return when all input is consumed, its outputs acknowledged and its offsets committed.

        Raises
        ------
        WorkerCrashed
            when a worker crashes meanwhile.
        NotSettled
            when nothing goes on any more, or there is no worker.
        """
        turns, still, seen, moved_at = 0, 0, -1, monotonic()
        while (waits := await self._waits()) is not None:
            turns += 1
            if (now := self._progress()) != seen:
                seen, still, moved_at = now, 0, monotonic()
            still += 1
            if self._given_up(still, moved_at):
                raise NotSettled(f"the topology does not settle: {waits}{self.faults()}")
            await asyncio.sleep(0 if turns < _QUICK_TURNS else _PAUSE_SECONDS)

    async def until_crash(self) -> MemoryWorker:
        """Return the worker that crashes; NotSettled when everything is done and none did."""
        try:
            await self.settle()
        except WorkerCrashed:
            return next(worker for worker in self._workers if worker.error is not None)
        raise NotSettled("no worker crashed: everything that was published is worked on")

    async def until_still(self) -> None:
        """Return when nothing goes on any more, also where a fault holds something up."""
        still, seen = 0, -1
        while still < _STILL_TURNS:
            still += 1
            if (now := self._progress()) != seen:
                seen, still = now, 0
            await asyncio.sleep(0)

    def check(self) -> None:
        """Raise WorkerCrashed if one has."""
        for worker in self._workers:
            if worker.error is not None:
                raise WorkerCrashed(f"{worker.name}: {worker.error!r}") from worker.error

    def faults(self) -> str:
        """What the test holds up, for the end of a sentence."""
        broker = self._around.broker
        waiting = sorted({f"{tp.topic}[{tp.partition}]" for tp, _, _ in broker.unanswered})
        if broker.silent:
            held = f", which holds records to {', '.join(waiting)}" if waiting else ""
            return f"; the test froze {', '.join(sorted(broker.silent))}{held}"
        return ""

    async def _waits(self) -> str | None:
        """What is waited for, in words; None when there is nothing."""
        self.check()
        if self._around.group.rebalancing or any(w.recovering for w in self._workers):
            return "partitions are being given to workers"
        unread = self._unread()
        if unread:
            if not self._workers:
                return f"no worker runs, and nobody reads {_listed(unread)}"
            for worker in self._workers:
                if not worker.in_work:
                    await worker.commit()
            return f"nobody has finished {_listed(unread)}"
        if not self._around.cache.out and any(w.cache_behind for w in self._workers):
            return "the cache has not everything"
        return None

    def _unread(self) -> list[TP]:
        broker = self._around.broker
        committed = broker.committed
        return [tp for tp in self._sources if committed.get(tp, 0) < broker.ends[tp]]

    def _progress(self) -> int:
        positions = sum(sum(w.app.consumer.positions.values()) for w in self._workers)
        return self._around.broker.changes + positions

    def _given_up(self, still: int, moved_at: float) -> bool:
        hopeless = self._around.broker.silent or not self._workers
        return bool(hopeless and still > _STILL_TURNS) or monotonic() - moved_at > self._seconds


def _listed(tps: list[TP]) -> str:
    return ", ".join(f"{tp.topic}[{tp.partition}]" for tp in tps)
