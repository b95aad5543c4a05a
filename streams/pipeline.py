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
from models.contracts.dead_letters import CUT, dead_letter_headers
from models.documents import CONTENT_TYPE
from models.engine import DeadLetter, Outputs, Record, Update, advance, process
from streams.cache import MAX_CLV, CachedScore, CacheWriter
from streams.parameters import ParameterFeed
from streams.settings import Settings
from streams.topics import home_partition
from streams.transport import OutgoingRecord, PartitionedTable, RecordBatch

log = structlog.get_logger(__name__)

IN_WORK = 8
"""Batches whose deliveries may be awaited at once: enough to keep the processor busy."""

SWEEP = 2_000
"""Customers that are scored at once when time passes."""

PARAMETERS_SECONDS = 60.0
"""How long a tick waits for the parameters it asks for."""

LARGEST_LETTER = 3 * 1024 * 1024
"""Bytes of a refused record's value that are kept; the topic takes a record of 4 MiB."""

_JSON = [CONTENT_TYPE]


@dataclass(slots=True)
class Counts:
    """What this worker has done since it started."""

    records: int = 0
    accepted: int = 0
    duplicates: int = 0
    replayed: int = 0
    rekeyed: int = 0
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
        self.rekeyed += len(outputs.rekeyed)
        self.updates += len(outputs.updates)
        self.segment_changes += len(outputs.segment_changes)
        self.new_customers += outputs.new_customers
        self.dead_letters += outputs.reasons()


class _Work(NamedTuple):
    """Outputs on their way.

    former, stored: set when the changelog records of the partition's former outputs, and of these,
    are with the producer. event: the batch to acknowledge at the end, if these are its last.
    """

    partition: int
    outputs: Outputs
    deliveries: Sequence[asyncio.Future[Any]]
    former: asyncio.Event | None
    stored: asyncio.Event
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
        self._slots = asyncio.Semaphore(IN_WORK)
        self._failure: BaseException | None = None
        self._stored: dict[int, asyncio.Event] = {}
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
        return Context(self.economics, self.feed.current)

    def _hand_over(
        self, batch: RecordBatch, outputs: Outputs, event: EventT | None = None
    ) -> asyncio.Task[None]:
        """Store the records, hand the outputs to the producer, and see them through meanwhile.

        Nothing is awaited between reading the states and this, and each call takes its place behind
        the partition's former one: the changelog gets a customer's records in their order.
        """
        partition = batch.tp.partition
        self.table.update_partition(partition, outputs.records)
        deliveries = self._publish(batch, outputs)
        former = self._stored.get(partition)
        stored = self._stored[partition] = asyncio.Event()
        work = _Work(partition, outputs, deliveries, former, stored, event)
        task = asyncio.create_task(self._see_through(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _publish(self, batch: RecordBatch, outputs: Outputs) -> list[asyncio.Future[Any]]:
        """Hand the outputs to the producer, without waiting; they keep the partition."""
        partition, topics = batch.tp.partition, self.topics
        updates = ((u.key, u.document, _JSON) for u in outputs.updates)
        changes = ((key, document, _JSON) for key, document in outputs.segment_changes)
        letters = (_letter(batch, letter) for letter in outputs.dead_letters)
        deliveries = [
            *self._to(topics.updates, partition, updates),
            *self._to(topics.segment_changes, partition, changes),
            *self._to(topics.dead_letters, partition, letters),
        ]
        for key, record in outputs.rekeyed:
            home = home_partition(key, self.partitions)
            again = (key, record.value, _rekeyed_headers(batch, record))
            deliveries += self._to(batch.tp.topic, home, [again])
        return deliveries

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
        try:
            await asyncio.gather(*work.deliveries)
            if work.former is not None:
                await work.former.wait()
            if self._failure is not None:
                return
            logged = self.table.send_items(work.partition, work.outputs.records)
            work.stored.set()
            await asyncio.gather(*logged)
            self.cache.submit([_cached(update) for update in work.outputs.updates])
            await self.cache.flush()
            if work.event is not None:
                work.event.ack()
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be committed
            if self._failure is None:
                self._failure = error
                await self.app.crash(error)
        finally:
            work.stored.set()
            self._slots.release()


def _cached(update: Update) -> CachedScore:
    # What is beyond the ranking's exact numbers stands at its end; the document has the value.
    clv = min(max(update.clv, -MAX_CLV), MAX_CLV)
    return CachedScore(update.customer_id, update.version, clv, update.segments, update.document)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _letter(batch: RecordBatch, letter: DeadLetter) -> OutgoingRecord:
    record = letter.record
    headers = dead_letter_headers(
        letter.refused, record.headers, batch.tp.topic, batch.tp.partition, record.offset
    )
    value = record.value
    if value is not None and len(value) > LARGEST_LETTER:
        # It came compressed, and would not fit the topic as it is.
        headers.append((CUT, str(len(value)).encode()))
        value = value[:LARGEST_LETTER]
    return record.key, value, headers


def _rekeyed_headers(batch: RecordBatch, record: Record) -> list[tuple[str, bytes]]:
    where = f"{batch.tp.topic}[{batch.tp.partition}]@{record.offset}"
    return [*record.headers, ("clv.rekeyed-from", where.encode())]
