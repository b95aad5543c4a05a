"""A simulated cache: what Redis and the service's scripts do, in memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from math import floor

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from streams.cache import CachedScore, SegmentTotals
from streams.cache.arguments import Call, Written, call_arguments
from streams.cache.ports import Standing
from streams.cache.repair import Repaired
from streams.cache.score import RankedCustomer, Removal
from streams.cache.server import ServerFacts

CLEAN = "clean"


class MemoryScoreCache:
    """Simulated: in place of `ScoreCache` and its Redis; `out`: as if Redis were not reachable."""

    def __init__(self) -> None:
        self.out = False
        self.app_id = ""
        self.prefix = "memory"
        self._scores: dict[str, CachedScore] = {}
        self._removed: dict[str, int] = {}
        self._marks: dict[int | str, str] = {}
        self._times: dict[int | str, int] = {}

    async def write(self, calls: Sequence[Call]) -> list[Written | RedisError]:
        """Make the calls in order; return what came of each."""
        self._check()
        return [self._write(call) for call in calls]

    async def marks(self, partitions: Sequence[int]) -> list[str]:
        """The mark of each partition; empty: none."""
        self._check()
        return [self._marks.get(partition, "") for partition in partitions]

    async def standing(self, partition: int, now: int) -> Standing:
        """How a partition stands; a cache without customers is noted as such."""
        self._check()
        if mark := self._marks.get(partition, ""):
            return Standing(mark, self._times.get(partition))
        if not self._scores and not self._marks:
            self._times[CLEAN] = now
        return Standing(mark, self._times.get(CLEAN))

    async def finish(self, partition: int, own: tuple[str, str], end: int, since: int) -> bool:
        """Set a partition's mark after all of it was read; False where the reader's own is gone."""
        self._check()
        name, mark = own
        if self._marks.get(name, "") != mark:
            return False
        del self._marks[name]
        held = self._marks.get(partition, "")
        if not held or int(held.partition("~")[0]) < end:
            self._marks[partition], self._times[partition] = str(end), since
        return True

    async def own(self) -> str:
        """Nobody else writes here."""
        self._check()
        return self.app_id

    async def repair(self, facts: ServerFacts) -> Repaired:  # noqa: ARG002
        """Nothing was evicted, and all is counted when it is asked for."""
        self._check()
        return Repaired(len(self._scores), 0)

    async def scan_customers(self) -> AsyncIterator[list[str]]:
        """All customers at once."""
        self._check()
        yield list(self._scores)

    async def facts(self) -> ServerFacts:
        """A server that never evicts."""
        self._check()
        return ServerFacts("noeviction", 0, "memory")

    async def check_whole(self, facts: ServerFacts) -> bool:
        """Whether nothing was evicted."""
        self._check()
        return not facts.evicted

    async def get(self, customer_id: str) -> CachedScore | None:
        """A customer's score; None when there is none."""
        self._check()
        return self._scores.get(customer_id)

    async def top(self, n: int) -> list[RankedCustomer]:
        """The `n` customers of the highest value, highest first."""
        self._check()
        return self._ranking()[: max(n, 0)]

    async def members(
        self, dimension: str, segment: str, start: int = 0, count: int = 100
    ) -> list[RankedCustomer]:
        """`count` members of a segment from place `start`, highest value first."""
        if start < 0 or count < 0:
            raise ValueError(f"start and count must not be negative, got {start} and {count}")
        self._check()
        inside = set(self._members(dimension, segment))
        found = [ranked for ranked in self._ranking() if ranked.customer_id in inside]
        return found[start : start + count]

    async def totals(self, dimension: str) -> dict[str, SegmentTotals]:
        """The totals of every segment of a dimension that has customers."""
        self._check()
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for score in self._scores.values():
            segment = dict(score.segments).get(dimension)
            if segment is not None:
                sums[segment][0] += 1
                # As the script rounds to cents.
                sums[segment][1] += floor(score.clv * 100 + 0.5)
        return {segment: SegmentTotals(*sums[segment]) for segment in sorted(sums)}

    async def size(self) -> int:
        """How many customers there are."""
        self._check()
        return len(self._scores)

    def forget(self) -> None:
        """Lose everything, as a Redis without persistence that was started again."""
        self._scores.clear()
        self._removed.clear()
        self._marks.clear()
        self._times.clear()

    def _write(self, call: Call) -> Written:
        call_arguments("", call)  # for what it refuses
        removed = sum(self._remove(removal) for removal in call.removals)
        written = sum(self._put(score, correct=call.correct) for score in call.scores)
        mark = ""
        if call.mark is not None:
            partition, held, following, time = call.mark
            mark = self._marks.get(partition, "")
            if mark == held:
                if mark != following:
                    mark = self._marks[partition] = following
                if time is not None:
                    self._times[partition] = time
        return Written(written, removed, mark)

    def _put(self, score: CachedScore, *, correct: bool) -> bool:
        held = self._scores.get(score.customer_id)
        before = self._removed.get(score.customer_id, -1) if held is None else held.position
        wrong = correct and held is not None and score.position == before and score != held
        if score.position <= before and not wrong:
            return False
        self._scores[score.customer_id] = score
        return True

    def _remove(self, removal: Removal) -> bool:
        held = self._scores.get(removal.customer_id)
        if held is not None and held.position >= removal.position:
            return False
        noted = self._removed.get(removal.customer_id, -1)
        self._removed[removal.customer_id] = max(noted, removal.position)
        return self._scores.pop(removal.customer_id, None) is not None

    def _ranking(self) -> list[RankedCustomer]:
        """As Redis orders a sorted set backwards: equal values by id, the greater first."""
        scores = sorted(
            self._scores.values(), key=lambda s: (s.clv, s.customer_id.encode()), reverse=True
        )
        return [RankedCustomer(score.customer_id, score.clv) for score in scores]

    def _members(self, dimension: str, segment: str) -> Iterator[str]:
        for score in self._scores.values():
            if dict(score.segments).get(dimension) == segment:
                yield score.customer_id

    def _check(self) -> None:
        if self.out:
            raise RedisConnectionError("the test made the cache be away")
