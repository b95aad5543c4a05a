"""The queue of one partition: updates that wait for Redis, and the known mark."""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from itertools import count, islice
from uuid import uuid4

from streams.cache.arguments import Call, MarkMove
from streams.cache.cache import CHUNK, chunks
from streams.cache.rereading import item_call, mark_offset
from streams.cache.score import Item

_UNIQUE = uuid4().hex[:12]
_STEPS = count(1)


class Mode(Enum):
    """How submitted updates get to Redis.

    CURRENT: they are written with the mark. BEHIND: they are written without it, and a catch-up
    moves the mark. HELD: they wait while the catch-up reads the last records. FOREIGN: another
    worker has the partition; they are written without the mark.
    """

    FOREIGN = auto()
    BEHIND = auto()
    HELD = auto()
    CURRENT = auto()


class PartitionQueue:
    """The last waiting item of each customer, and the mark.

    end: offset after the last submitted record; known: the mark in Redis, while CURRENT; left: how
    many offsets a catch-up still has to read, None while unknown; falls: how often it fell behind;
    stamped: False if the mark's time has to be set again.
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
        """Add published items; return whether they follow the last submitted ones.

        start: offset of the first record, None to skip the check. Errors: ValueError for an end
        before the last one.
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
            if held is None or item.position > held.position:
                self.waiting[item.customer_id] = item
        return follows

    @property
    def idle(self) -> bool:
        """Return whether there is nothing to write now."""
        if self.mode is Mode.CURRENT:
            marked = self.stamped and self.end <= (mark_offset(self.known) or 0)
            return marked and not self.waiting
        return self.mode is Mode.HELD or not self.waiting

    def calls(self, most: int, now: int) -> Iterator[Call]:
        """Yield the calls that write waiting items, of `most` customers.

        now: the time of the mark, in milliseconds, once nothing waits any more.
        """
        if self.idle:
            return
        items = list(islice(self.waiting.values(), most))
        parts = list(chunks(items)) or [[]]
        known = self.known
        final = str(max(self.end, mark_offset(known) or 0))
        for number, part in enumerate(parts, 1):
            mark = None
            if self.mode is Mode.CURRENT:
                last = number == len(parts) and len(items) == len(self.waiting)
                # A unique mark for each step, so that the next call applies only after this one.
                step = f"{mark_offset(known) or 0}~{_UNIQUE}.{next(_STEPS)}"
                mark = (
                    MarkMove(self.partition, known, final, now)
                    if last
                    else MarkMove(self.partition, known, step)
                )
                known = mark.next
            yield item_call(part, mark)

    def written(self, call: Call) -> None:
        """Remove the items that a call has written, unless newer ones wait by now."""
        items: list[Item] = [*call.scores, *call.removals]
        for item in items:
            if self.waiting.get(item.customer_id) is item:
                del self.waiting[item.customer_id]
        if call.mark is not None and call.mark.time is not None:
            self.stamped = True

    def fall_behind(self) -> None:
        """Leave the mark to a catch-up that starts after this."""
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
