"""The way of a batch: engine, outputs, changelog, cache, commit.

    outputs = process(states, records)
    -> clv.updates, clv.segment-changes, clv.dead-letters, and the broker acknowledges them
    -> the changelog, and the broker acknowledges it
    -> Redis
    -> the batch is acknowledged, and its offset may be committed

Outputs come before the changelog: a stored record then says that what it caused was published, and
whatever happens in between, the events are processed again from the state before them, to the same
outputs. The next batches are worked on while the deliveries of the last ones are awaited.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import structlog
from faust.types import EventT
from pydantic import ValidationError

from models.acceptance import FUTURE_TOLERANCE
from models.aggregate.fold import milliseconds
from models.context import Context
from models.contracts import Reason, Refused
from models.contracts.clock import Tick
from models.engine import advance, exchange, process
from models.outputs import DeadLetter, Outputs, Record
from streams.cache import CacheWriter
from streams.outgoing import (
    cached,
    change_records,
    letter_record,
    removals,
    stray_record,
    value_records,
)
from streams.parameters import ParameterFeed
from streams.settings import Settings
from streams.topics import home_partition
from streams.transport import Delivery, OutgoingRecord, PartitionedTable, RecordBatch

log = structlog.get_logger(__name__)

IN_WORK = 8
"""Batches whose deliveries may be awaited at once: enough to keep the processor busy."""

SWEEP = 2_000
"""Customers that are scored at once when time passes."""

PARAMETERS_SECONDS = 60.0
"""How long a tick waits for the parameters it asks for."""


@dataclass(slots=True)
class Counts:
    """What this worker has done since it started."""

    records: int = 0
    accepted: int = 0
    duplicates: int = 0
    replayed: int = 0
    forgotten: int = 0
    rekeyed: int = 0
    removed: int = 0
    updates: int = 0
    segment_changes: int = 0
    new_customers: int = 0
    ticks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)

    def add(self, outputs: Outputs, records: int) -> None:
        """Count what came of a batch."""
        self.records += records
        self.accepted += outputs.accepted
        self.duplicates += outputs.duplicates
        self.replayed += outputs.replayed
        self.forgotten += outputs.forgotten
        self.rekeyed += len(outputs.rekeyed)
        self.removed += len(outputs.removed)
        self.updates += len(outputs.updates)
        self.segment_changes += len(outputs.segment_changes)
        self.new_customers += outputs.new_customers
        self.dead_letters += outputs.reasons()


class _Published(NamedTuple):
    """Deliveries under way: those of the values, and all others."""

    values: Sequence[asyncio.Future[Delivery]]
    others: Sequence[asyncio.Future[Any]]


class _Turn:
    """A place in the order of a partition's outputs.

    stored: set when the changelog records are with the producer; told: when the cache has the
    values. Each waits for those of the turn before.
    """

    def __init__(self) -> None:
        self.stored = asyncio.Event()
        self.told = asyncio.Event()

    def give_way(self) -> None:
        """Let the next one go on, whatever became of this."""
        self.stored.set()
        self.told.set()


class _Work(NamedTuple):
    """Outputs on their way.

    former: the turn before. event: the batch to acknowledge at the end, if these are its last.
    """

    partition: int
    outputs: Outputs
    published: _Published
    former: _Turn | None
    turn: _Turn
    event: EventT | None


class Pipeline:
    """Works on batches for the agents of one app."""

    def __init__(
        self,
        app: Any,
        table: PartitionedTable,
        settings: Settings,
        *,
        partitions: int,
        feed: ParameterFeed,
        cache: CacheWriter,
    ) -> None:
        self.app = app
        self.partitions = partitions
        self.table = table
        self.topics = settings.topics
        self.economics = settings.economics
        self.feed = feed
        self.cache = cache
        self.counts = Counts()
        self.in_work = 0
        """Calls of the engine whose deliveries are awaited."""
        self.last_done = time.monotonic()
        """When outputs were last seen through, by the monotonic clock."""
        key = settings.erasure_key
        self._erasure_key = b"" if key is None else key.get_secret_value().encode()
        self._slots = asyncio.Semaphore(IN_WORK)
        self._failure: BaseException | None = None
        self._turns: dict[int, _Turn] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def fold(self, event: EventT) -> None:
        """Fold a batch of input records into the customers' records."""
        batch: RecordBatch = event.value
        await self._slot()
        outputs = process(
            self.table.partition(batch.tp.partition),
            batch.origin,
            batch.records,
            self._context(),
            now=_now(),
            at_home=lambda key: home_partition(key, self.partitions) == batch.tp.partition,
        )
        self.counts.add(outputs, len(batch))
        self._hand_over(batch, outputs, event)

    async def exchange(self, event: EventT) -> None:
        """Do what merged and erased customers of other partitions ask for."""
        batch: RecordBatch = event.value
        await self._slot()
        states = self.table.partition(batch.tp.partition)
        outputs = exchange(states, batch.origin, batch.records, self._context())
        self._hand_over(batch, outputs, event)

    async def pass_time(self, event: EventT) -> None:
        """Let time pass for all customers of a partition, as the records of a batch say."""
        batch: RecordBatch = event.value
        await self._slot()
        under_way: set[asyncio.Task[None]] = set()
        for record in batch.records:
            for outputs in await self._tick(batch, record):
                self.counts.add(outputs, 0)
                task = self._hand_over(batch, outputs)
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                await self._slot()
        if under_way:
            await asyncio.wait(under_way)
        self._hand_over(batch, Outputs(), event)

    async def _tick(self, batch: RecordBatch, record: Record) -> Iterable[Outputs]:
        try:
            tick = Tick.model_validate_json(record.value or b"")
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            refused = Refused(Reason.INVALID_FIELD, where, f"{where}: {first['msg']}")
            return [Outputs(dead_letters=[DeadLetter(record, refused)])]
        as_of = milliseconds(tick.as_of)
        if as_of > _now() + FUTURE_TOLERANCE:
            refused = Refused(
                Reason.FUTURE,
                "as_of",
                f"as_of is {tick.as_of.isoformat()}, more than a day ahead; time does not go back, "
                "so nobody is valued as of then",
            )
            return [Outputs(dead_letters=[DeadLetter(record, refused)])]
        if tick.parameters is not None and not await self.feed.wait_for(
            tick.parameters, PARAMETERS_SECONDS
        ):
            log.warning("a tick asks for parameters that have not arrived", wanted=tick.parameters)
        return self._sweep(batch, record.offset, as_of)

    def _sweep(self, batch: RecordBatch, offset: int, as_of: int) -> Iterator[Outputs]:
        states = self.table.partition(batch.tp.partition)
        keys = iter(list(states))
        while chunk := list(islice(keys, SWEEP)):
            outputs = advance(
                states,
                chunk,
                batch.origin,
                offset,
                self._context(),
                as_of=as_of,
            )
            yield outputs
        self.counts.ticks += 1

    def _context(self) -> Context:
        return Context(self.economics, self.feed.current, erasure_key=self._erasure_key)

    def _hand_over(
        self, batch: RecordBatch, outputs: Outputs, event: EventT | None = None
    ) -> asyncio.Task[None]:
        """Store the records, hand the outputs to the producer, and see them through meanwhile.

        Nothing is awaited between reading the states and this, and each call takes its place behind
        the partition's former one: the changelog gets a customer's records in their order.
        """
        partition = batch.tp.partition
        self.table.update_partition(partition, outputs.records)
        published = self._publish(batch, outputs)
        former = self._turns.get(partition)
        turn = self._turns[partition] = _Turn()
        work = _Work(partition, outputs, published, former, turn, event)
        self.in_work += 1
        task = asyncio.create_task(self._see_through(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _publish(self, batch: RecordBatch, outputs: Outputs) -> _Published:
        """Hand the outputs to the producer, without waiting; they keep the partition."""
        partition, topics = batch.tp.partition, self.topics
        letters = (letter_record(batch, letter) for letter in outputs.dead_letters)
        return _Published(
            self._to(topics.updates, partition, value_records(outputs)),
            [
                *self._to(topics.segment_changes, partition, change_records(outputs)),
                *self._to(topics.dead_letters, partition, letters),
                *self._elsewhere(batch, outputs),
            ],
        )

    def _elsewhere(self, batch: RecordBatch, outputs: Outputs) -> Iterator[asyncio.Future[Any]]:
        """What goes to other partitions: strays, and messages to other customers."""
        for stray in outputs.rekeyed:
            home = home_partition(stray.key, self.partitions)
            yield from self._to(batch.tp.topic, home, [stray_record(batch, stray)])
        for key, message in outputs.messages:
            home = home_partition(key, self.partitions)
            yield from self._to(self.topics.identity, home, [(key, message, [])])

    def _to(
        self, topic: str, partition: int, records: Iterable[OutgoingRecord]
    ) -> list[asyncio.Future[Any]]:
        deliveries: list[asyncio.Future[Any]]
        deliveries = self.app.producer.send_records(topic, partition, records)
        return deliveries

    async def _slot(self) -> None:
        await self._slots.acquire()
        if self._failure is not None:
            raise self._failure

    async def _see_through(self, work: _Work) -> None:
        """Wait for the broker, store, wait again, tell Redis, acknowledge; or stop the worker."""
        outputs, former = work.outputs, work.former
        try:
            values = await asyncio.gather(*work.published.values)
            await asyncio.gather(*work.published.others)
            if former is not None:
                await former.stored.wait()
            if self._failure is not None:
                return
            logged = self.table.send_items(work.partition, outputs.records)
            work.turn.stored.set()
            await asyncio.gather(*logged)
            if former is not None:
                await former.told.wait()
            if self._failure is not None:
                return
            end = values[-1].end if values and values[-1].end >= 0 else None
            scores = [cached(update) for update in outputs.updates]
            self.cache.submit(work.partition, end, scores, removals(outputs))
            work.turn.told.set()
            await self.cache.flush()
            if work.event is not None:
                work.event.ack()
            self.last_done = time.monotonic()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # What was awaited has been cancelled: as bad as if it had failed.
            await self._stop_for(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be committed
            await self._stop_for(error)
        finally:
            work.turn.give_way()
            self.in_work -= 1
            self._slots.release()

    async def _stop_for(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            await self.app.crash(error)


def _is_cancelled() -> bool:
    """Whether the task that asks was cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _now() -> int:
    return time.time_ns() // 1_000_000
