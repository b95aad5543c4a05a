"""The way of a batch: engine, changelog, outputs, cache, commit.

    outputs = process(states, records)
    -> dead letters and messages between customers, and the broker acknowledges them
    -> the changelog, and the broker acknowledges it
    -> clv.updates, clv.segment-changes and clv.rerouted, and the broker acknowledges them
    -> Redis
    -> the batch is acknowledged, and its offset may be committed

The state comes before what it leads to. A stored record holds what has to be told of it, so that
after a crash the same is told again, and nothing is ever told that did not come to be. Each step of
a partition's batches happens in their order; while one batch is between two steps, others are too.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import structlog
from faust.types import EventT
from pydantic import ValidationError

from models.acceptance import FUTURE_TOLERANCE
from models.aggregate.fold import milliseconds
from models.aggregate.record import BASIS_KEY, ERASURE_KEY, erasure_fingerprint
from models.context import Context
from models.contracts import Reason, Refused
from models.contracts.clock import Tick
from models.customers import Fate
from models.engine import advance, exchange, process
from models.outputs import DeadLetter, Outputs, Record
from models.oversized import check_unpacked
from streams.basis.keeper import Keeper
from streams.cache import CacheWriter
from streams.counts import Counts
from streams.erasing.key import check_key
from streams.outgoing import (
    cached,
    change_records,
    letter_record,
    message_records,
    positions,
    rerouted_records,
    value_records,
)
from streams.parameters import ParameterFeed
from streams.poison import Poison, Suspected
from streams.settings import Settings
from streams.topics import home_partition
from streams.transport import (
    Delivery,
    OutgoingRecord,
    PartitionedTable,
    RecordBatch,
    topic_partition,
)

log = structlog.get_logger(__name__)

IN_WORK = 8
"""Batches whose deliveries may be awaited at once: enough to keep the processor busy."""

SWEEP = 2_000
"""Customers that are scored at once when time passes."""

PARAMETERS_SECONDS = 20.0
"""How long a tick waits for the parameters it asks for: a rebalance must not wait much longer."""


class _Lane:
    """The steps of one partition: each takes one batch at a time, in the order they came.

    followed: ends when the last events that followed a merge are at the broker; none are under way.
    last: the work that was begun last.
    """

    def __init__(self) -> None:
        self.followed: asyncio.Future[None] | None = None
        self.last: asyncio.Task[None] | None = None
        self.store = asyncio.Lock()
        self.tell = asyncio.Lock()
        self.cache = asyncio.Lock()


class _Progress:
    """How far the records of one topic-partition got: offsets after the last of them.

    handed_over: their outputs are on their way. told: their outputs are at the broker.
    """

    handed_over = 0
    told = 0


class _Work(NamedTuple):
    """Outputs on their way.

    first: deliveries that the records wait for. progress, end: of their topic-partition, and how
    far it is when they are told; none where more of the same record follows. event: the batch to
    acknowledge at the end, if these are its last.
    """

    partition: int
    outputs: Outputs
    first: Sequence[asyncio.Future[Any]]
    progress: _Progress
    end: int | None
    event: EventT | None


class Pipeline:
    """Works on batches for the agents of one app.

    now: milliseconds since 1970; none: the wall clock. keeper: of what the state was built on.
    """

    def __init__(
        self,
        app: Any,
        table: PartitionedTable,
        settings: Settings,
        *,
        partitions: int,
        feed: ParameterFeed,
        cache: CacheWriter,
        now: Callable[[], int] | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.app = app
        self.partitions = partitions
        self.table = table
        self.topics = settings.topics
        self.economics = settings.economics
        self.feed = feed
        self.cache = cache
        self.keeper = keeper
        self.now = _now if now is None else now
        self.counts = Counts()
        self.in_work = 0
        """Calls of the engine whose deliveries are awaited."""
        self.last_done = time.monotonic()
        """When outputs were last seen through, by the monotonic clock."""
        self._erasure_key = settings.erasure_secret
        self._poison = Poison(table, self._committed_to, settings.topics.identity)
        self._slots = asyncio.Semaphore(IN_WORK)
        self._failure: BaseException | None = None
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)
        self._progress: defaultdict[str, _Progress] = defaultdict(_Progress)
        self._tasks: set[asyncio.Task[None]] = set()

    def assigned(self) -> None:
        """Take note that partitions were assigned: what others did meanwhile is not known."""
        self._progress.clear()

    async def fold(self, event: EventT) -> None:
        """Fold a batch of input records into the customers' records."""
        await self._work_off(event, self._fold, self.counts.add)

    async def exchange(self, event: EventT) -> None:
        """Do what merged and erased customers of other partitions ask for."""
        await self._work_off(
            event, self._exchange, lambda outputs, _records: self.counts.add_published(outputs)
        )

    async def _work_off(
        self,
        event: EventT,
        work: Callable[[RecordBatch], Outputs],
        count: Callable[[Outputs, int], None],
    ) -> None:
        """Have the engine work on a batch, part by part where so much is pending that it stops."""
        rest: RecordBatch = event.value
        self._poison.forgive(rest)
        while True:
            await self._slot()
            try:
                outputs = work(rest)
            except Exception as error:  # noqa: BLE001 - what is no record's fault is raised again
                outputs = await self._poison.instead(rest, work, error)
            part, rest = rest.cut(outputs.taken)
            if part:
                count(outputs, len(part))
                end = part.last_offset + 1
                self._hand_over(part, outputs, None if rest else event, end=end)
            else:
                self._slots.release()
            if not rest:
                return
            # Once what is on its way has been told, the records need not hold it any longer.
            if (last := self._lanes[rest.tp.partition].last) is not None:
                await asyncio.wait({last})

    def _fold(self, batch: RecordBatch) -> Outputs:
        return process(
            self._states(batch.tp.partition),
            batch.origin,
            batch.records,
            self._context(batch),
            now=self.now(),
            role=self.topics.role(batch.tp.topic),
            at_home=lambda key: self._is_home(key, batch.tp.partition),
            fates=self._fate,
        )

    def _exchange(self, batch: RecordBatch) -> Outputs:
        return exchange(
            self._states(batch.tp.partition),
            batch.origin,
            batch.records,
            self._context(batch),
            at_home=lambda key: self._is_home(key, batch.tp.partition),
            fates=self._fate,
        )

    def _is_home(self, key: bytes, partition: int) -> bool:
        return home_partition(key, self.partitions) == partition

    async def pass_time(self, event: EventT) -> None:
        """Let time pass for all customers of a partition, as the records of a batch say."""
        batch: RecordBatch = event.value
        await self._slot()
        self._poison.forgive(batch)
        under_way: set[asyncio.Task[None]] = set()
        for record in batch.records:
            try:
                for outputs in await self._tick(batch, record):
                    self.counts.add(outputs, 0)
                    task = self._hand_over(batch, outputs)
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await self._slot()
            except Suspected as found:
                await self._poison.strike(batch, record, found.key.decode(), found.error)
        if under_way:
            await asyncio.wait(under_way)
        self._hand_over(batch, Outputs(), event, end=batch.last_offset + 1)

    async def _tick(self, batch: RecordBatch, record: Record) -> Iterable[Outputs]:
        try:
            check_unpacked(record.value, batch.origin)
            tick = Tick.model_validate_json(record.value or b"")
        except Refused as error:
            return [Outputs(dead_letters=[DeadLetter(record, error)])]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            refused = Refused(Reason.INVALID_FIELD, where, f"{where}: {first['msg']}")
            return [Outputs(dead_letters=[DeadLetter(record, refused)])]
        as_of = milliseconds(tick.as_of)
        if as_of > self.now() + FUTURE_TOLERANCE:
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
            # To have waited in vain is progress too.
            self.last_done = time.monotonic()
        return self._sweep(batch, record, as_of)

    def _sweep(self, batch: RecordBatch, record: Record, as_of: int) -> Iterator[Outputs]:
        states = self._states(batch.tp.partition)
        keys = iter(list(states))

        def score(chunk: Sequence[bytes]) -> Outputs:
            return advance(
                states,
                chunk,
                batch.origin,
                record.offset,
                self._context(batch),
                as_of=as_of,
                fates=self._fate,
            )

        while chunk := list(islice(keys, SWEEP)):
            yield from self._poison.scored(batch, record, chunk, score)
        self.counts.ticks += 1

    def _context(self, batch: RecordBatch) -> Context:
        first = 0 if self.keeper is None else self.keeper.first_version(batch.tp.partition)
        return Context(
            self.economics,
            self.feed.current,
            erasure_key=self._erasure_key,
            first_version=first,
        )

    def _states(self, partition: int) -> Mapping[bytes, bytes]:
        """The records of a partition, written under the same secret as ours.

        Raises
        ------
        ErasureKeyChanged
            when they were written under another one.
        """
        states = self.table.partition(partition)
        check_key(states, partition, self._erasure_key)
        return states

    def _fate(self, origin: str, offset: int) -> Fate:
        progress = self._progress[origin]
        if offset < progress.told:
            return Fate.TOLD
        if offset < progress.handed_over:
            return Fate.UNDER_WAY
        if self.keeper is not None and self.keeper.is_former(origin):
            return Fate.TOLD if self.keeper.was_committed(origin, offset) else Fate.UNKNOWN
        return Fate.TOLD if offset < self._committed_to(origin) else Fate.UNKNOWN

    def _committed_to(self, origin: str) -> int:
        committed: int = self.app.consumer.committed_to(topic_partition(origin))
        return committed

    def _hand_over(
        self,
        batch: RecordBatch,
        outputs: Outputs,
        event: EventT | None = None,
        *,
        end: int | None = None,
    ) -> asyncio.Task[None]:
        """Store the records in memory, and see the outputs through meanwhile.

        Nothing is awaited between reading the states and this, and each call takes its place behind
        the partition's former one: the changelog gets a customer's records in their order.
        """
        partition = batch.tp.partition
        basis = None if self.keeper is None else self.keeper.refreshed(batch)
        if basis is not None:
            outputs.records[BASIS_KEY] = basis
        # Beside each basis, so that both are found near the end of the changelog.
        unsaid = outputs.records and ERASURE_KEY not in self.table.partition(partition)
        if unsaid or basis is not None:
            outputs.records[ERASURE_KEY] = erasure_fingerprint(self._erasure_key)
        self.table.update_partition(partition, outputs.records)
        progress = self._progress[batch.origin]
        if end is not None:
            progress.handed_over = end
        letters = (letter_record(batch, letter) for letter in outputs.dead_letters)
        first = [
            *self._to(self.topics.dead_letters, partition, letters),
            *self._home(self.topics.identity, message_records(outputs.messages)),
        ]
        self.in_work += 1
        work = _Work(partition, outputs, first, progress, end, event)
        task = self._lanes[partition].last = asyncio.create_task(self._see_through(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _home(
        self, topic: str, records: Iterable[tuple[bytes, OutgoingRecord]]
    ) -> list[asyncio.Future[Any]]:
        """Send records to the partitions of the customers they are for."""
        by_partition: defaultdict[int, list[OutgoingRecord]] = defaultdict(list)
        for key, record in records:
            by_partition[home_partition(key, self.partitions)].append(record)
        return [
            delivery
            for partition, those in by_partition.items()
            for delivery in self._to(topic, partition, those)
        ]

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
        """Store, then tell, each when the broker has what comes before; or stop the worker.

        A record that is stored makes a replay of what went before: it gives no letter, and does not
        follow a merge, once more. So these have arrived before anything later is stored.
        """
        lane = self._lanes[work.partition]
        followed: asyncio.Future[None] | None = None
        try:
            async with lane.store:
                await self._arrived(work.first)
                if lane.followed is not None:
                    await self._arrived([lane.followed])
                    lane.followed = None
                if any(each.route.via is not None for each in work.outputs.rerouted):
                    followed = lane.followed = asyncio.get_running_loop().create_future()
                stored = self.table.send_items(work.partition, work.outputs.records)
            async with lane.tell:
                await self._arrived(stored)
                if work.outputs.erased:
                    self.table.erased(work.partition)
                values, others = self._tell(work)
            async with lane.cache:
                written = await self._arrived(values)
                await self._arrived(others)
                if followed is not None:
                    followed.set_result(None)
                self._tell_cache(work.partition, work.outputs, written)
                if work.end is not None:
                    work.progress.told = work.end
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
            if followed is not None and not followed.done():
                followed.set_result(None)
            self.in_work -= 1
            self._slots.release()

    async def _arrived(self, deliveries: Iterable[asyncio.Future[Any]]) -> list[Any]:
        """Wait for deliveries; for nothing once another batch has failed."""
        delivered = await asyncio.gather(*deliveries)
        if self._failure is not None:
            raise self._failure
        return delivered

    def _tell(self, work: _Work) -> tuple[list[asyncio.Future[Any]], list[asyncio.Future[Any]]]:
        """Send what follows from stored records; returns the deliveries of values, and others."""
        outputs, partition = work.outputs, work.partition
        values = self._to(self.topics.updates, partition, value_records(outputs))
        changes = change_records(outputs.segment_changes)
        others = [
            *self._to(self.topics.segment_changes, partition, changes),
            *self._home(self.topics.rerouted, rerouted_records(outputs)),
            *self._home(self.topics.identity, message_records(outputs.handovers)),
        ]
        return values, others

    def _tell_cache(self, partition: int, outputs: Outputs, written: Iterable[Delivery]) -> None:
        offsets = positions(written)
        if offsets is None:
            self.cache.unsure(partition)
            return
        start, end = (offsets[0], offsets[-1] + 1) if offsets else (None, None)
        self.cache.submit(partition, end, *cached(outputs, offsets), start=start)

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
