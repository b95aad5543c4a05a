"""What waits for Redis of one partition of the updates, and how far its mark is known to be."""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import count, islice
from uuid import uuid4

from streams.cache.arguments import Call, MarkMove
from streams.cache.cache import CHUNK, chunks
from streams.cache.replay import item_call, mark_offset
from streams.cache.score import Item, supersedes

_UNIQUE = uuid4().hex[:12]
_STEPS = count(1)


class Mode(Enum):
    """How what was submitted gets to Redis.

    FOREIGN: the partition is not ours; it is written, and its mark left alone. BEHIND: so too,
    while a catch-up moves the mark. HELD: it waits while the catch-up reads the last records.
    CURRENT: it is written with the mark.
    """

    FOREIGN = auto()
    BEHIND = auto()
    HELD = auto()
    CURRENT = auto()


class PartitionQueue:
    """The newest item of each customer that waits, and the mark.

    end: offset after the last record submitted; known: the mark in Redis, while CURRENT; left: how
    many offsets a catch-up still has to read, None while unknown; falls: how often it fell behind;
    stamped: False to have the mark's time set anew.
    """

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.mode = Mode.FOREIGN
        self.waiting: dict[str, Item] = {}
        self.end = 0
        self.known = ""
        self.left: int | None = None
        self.falls = 0
        self.held_from: int | None = None
        self.stamped = True

    def submit(self, start: int | None, end: int | None, items: Iterable[Item]) -> bool:
        """Take what was published; say whether it follows what is known of the partition.

        start: offset of the first record, None where that is not to be looked at. Errors:
        ValueError for an end before the last one.
        """
        follows = True
        if start is not None:
            if self.mode is Mode.HELD and self.held_from is None:
                self.held_from = start
            if self.mode is Mode.CURRENT:
                follows = start <= max(self.end, mark_offset(self.known) or 0)
        if end is not None:
            if end < self.end:
                raise ValueError(
                    f"updates of partition {self.partition} up to offset {end} were submitted "
                    f"after those up to {self.end}; submit them in the order of their offsets, or, "
                    "if the topic was made anew, run `clv rebuild-cache --clear` and start again"
                )
            self.end = end
        for item in items:
            held = self.waiting.get(item.customer_id)
            if held is None or supersedes(item, held):
                self.waiting[item.customer_id] = item
        return follows

    @property
    def idle(self) -> bool:
        """Whether there is nothing to write now."""
        return self.mode is Mode.HELD or not (self.waiting or self._mark_lags or self._unstamped)

    @property
    def _unstamped(self) -> bool:
        return self.mode is Mode.CURRENT and not self.stamped

    @property
    def _mark_lags(self) -> bool:
        return self.mode is Mode.CURRENT and self.end > (mark_offset(self.known) or 0)

    def calls(self, most: int, now: int) -> Iterator[Call]:
        """Yield the calls that write what waits, `most` customers of it.

        now: the time of the mark, in milliseconds, once nothing waits any more.
        """
        if self.idle:
            return
        items = list(islice(self.waiting.values(), most))
        parts = list(chunks(items)) or [[]]
        known = self.known
        for number, part in enumerate(parts, 1):
            mark = None
            if self.mode is Mode.CURRENT:
                last = number == len(parts) and len(items) == len(self.waiting)
                # A name of its own for each step: the next follows this one or not at all.
                step = f"{mark_offset(known) or 0}~{_UNIQUE}.{next(_STEPS)}"
                mark = (
                    MarkMove(self.partition, known, self._final, now)
                    if last
                    else MarkMove(self.partition, known, step)
                )
                known = mark.next
            yield item_call(part, mark)

    @property
    def _final(self) -> str:
        return str(max(self.end, mark_offset(self.known) or 0))

    def written(self, call: Call) -> None:
        """Let go of what a call has written, unless something newer waits by now."""
        items: list[Item] = [*call.scores, *call.removals]
        for item in items:
            if self.waiting.get(item.customer_id) is item:
                del self.waiting[item.customer_id]
        if call.mark is not None and call.mark.time is not None:
            self.stamped = True

    def fall_behind(self) -> None:
        """Leave the mark to a catch-up that begins after this."""
        self.falls += 1
        if self.mode is not Mode.FOREIGN:
            self.mode, self.left = Mode.BEHIND, None


def rounds(
    queues: Iterable[PartitionQueue], most: int, now: int
) -> list[tuple[PartitionQueue, Call]]:
    """Return the calls of one round trip, of about `most` customers; now: the time of the marks."""
    chosen: list[tuple[PartitionQueue, Call]] = []
    for queue in queues:
        if most <= 0:
            break
        for call in queue.calls(max(most, CHUNK), now):
            chosen.append((queue, call))
            most -= len(call.scores) + len(call.removals)
    return chosen
