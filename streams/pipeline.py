"""The path of a batch: engine, changelog, outputs, cache, commit.

    outputs = process(states, records)
    -> outputs sent before the state; the broker acknowledges them
    -> the changelog; the broker acknowledges it
    -> outputs sent after the state; the broker acknowledges them
    -> Redis
    -> the batch is acknowledged, and its offset may be committed

`streams.outgoing.OUTPUTS` lists what is published to which topic, and at which stage.

State is stored before its outputs are published. A stored record holds its outputs in an outbox, so
that after a crash the same outputs are sent again, and none is sent whose state was lost. Several
batches of a partition are in work at once, but they take each step in order.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog

from models.aggregate.record import BASIS_KEY, ERASURE_KEY, erasure_fingerprint
from models.calendar import MILLISECONDS_A_DAY
from models.context import Context
from models.engine import exchange
from models.outbox import DeliveryState
from models.outputs import Outputs
from models.recent import Recent
from models.timeline import NEVER
from streams.basis.keeper import Keeper
from streams.basis.key import check_key
from streams.cache.writer import CacheWriter
from streams.counts import Counts
from streams.dues import Dues
from streams.kafka.partitions import home_partition
from streams.metrics.meters import WorkerMeters
from streams.outgoing import OUTPUTS, Output, Stage, cached, positions, published_at
from streams.parameters import Feed
from streams.poison import Poison
from streams.refusals import RefusalLog
from streams.settings import Settings
from streams.tracing.traces import NO_TRACES, UNTRACED, BatchSpan, Traces
from streams.transport import EventT
from streams.transport.batches import RecordBatch, origin_parts
from streams.transport.producer import Delivery, OutgoingRecord, StrictDelivery
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

IN_WORK = 16
"""Batches that may await deliveries at once: enough to keep the processor busy."""


Count = Callable[[RecordBatch, Outputs], None]
"""Counts what was made of a batch."""


class _Lane:
    """The steps of one partition; each takes one batch at a time, in order.

    followed: done when rerouted records that followed a merge are delivered; None if there are none
    in flight. last: the task of the latest batch.
    """

    def __init__(self) -> None:
        self.followed: asyncio.Future[None] | None = None
        self.last: asyncio.Task[None] | None = None
        self.store = asyncio.Lock()
        self.publish = asyncio.Lock()
        self.cache = asyncio.Lock()


class _Offsets:
    """Offsets up to which the outputs of one topic-partition are handed over, and delivered."""

    handed_over = 0
    delivered = 0


class _Work(NamedTuple):
    """Outputs of a batch, or of a part of it, that are being delivered.

    first: deliveries that must arrive before the state is stored. progress, end: of the
    topic-partition, and its `delivered` afterwards; None if more outputs of the same record follow.
    event: the batch to acknowledge at the end, if these are its last outputs. began: when the
    engine was called, by the monotonic clock; None if that is not measured. span: of the batch.
    """

    batch: RecordBatch
    outputs: Outputs
    first: Sequence[asyncio.Future[Any]]
    progress: _Offsets
    end: int | None
    event: EventT | None
    began: float | None
    span: BatchSpan


class Pipeline:
    """Processes batches for the agents of one app.

    now: returns milliseconds since 1970; None: the wall clock. keeper: checks and writes the basis.
    """

    def __init__(
        self,
        app: Any,
        table: PartitionedTable,
        settings: Settings,
        *,
        partitions: int,
        feed: Feed,
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
        self.meters = WorkerMeters()
        self.traces: Traces = NO_TRACES
        """Who traces batches; whoever runs the worker sets it."""
        self.refusals = RefusalLog()
        """What was refused; whoever runs the worker has it logged."""
        self.in_work = 0
        """Calls of the engine whose deliveries are awaited."""
        self.last_done = time.monotonic()
        """When outputs were last delivered, by the monotonic clock."""
        self.dues = Dues()
        self.swept: dict[int, int] = {}
        """As of when a partition's customers were last looked at who were due."""
        self.live_at = -math.inf
        """When input records were last processed, by the monotonic clock."""
        self.history_at = -math.inf
        """When events were last folded that are more than a day old, by the monotonic clock."""
        self._contexts: dict[int, Context] = {}
        self.recent = Recent()
        self._erasure_key = settings.erasure_secret
        self._refresh = settings.refresh
        self._explained = settings.explain_values
        self.poison = Poison(table, self._committed_to, settings.topics.identity)
        self.slots = asyncio.Semaphore(IN_WORK)
        """One for each batch that is folded, or awaits its deliveries."""
        self.failure: BaseException | None = None
        """Why the app is being stopped."""
        self._lanes: defaultdict[int, _Lane] = defaultdict(_Lane)
        self._progress: defaultdict[str, _Offsets] = defaultdict(_Offsets)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def outstanding(self) -> int:
        """Batches of records that the broker has not acknowledged."""
        # The property App.producer would create one.
        producer: StrictDelivery | None = self.app._producer  # noqa: SLF001
        return 0 if producer is None else producer.outstanding

    def assigned(self) -> None:
        """Forget the progress: other workers may have had the assigned partitions meanwhile."""
        self._progress.clear()
        self.dues.forget()

    async def exchange(self, event: EventT) -> None:
        """Process the messages of merged and erased customers of other partitions."""
        self.poison.forgive(event.value)
        await self.slot()
        await self.process(
            event,
            event.value,
            self._exchange,
            lambda _batch, outputs: self.counts.add_published(outputs),
        )

    async def process(
        self,
        event: EventT,
        batch: RecordBatch,
        work: Callable[[RecordBatch], Outputs],
        count: Count,
    ) -> None:
        """Run the engine on a batch, in parts if it stops at a full outbox.

        event: the batch is all of it, or what is left. The caller has a slot.
        """
        while True:
            began = time.monotonic()
            try:
                outputs = work(batch)
            except Exception as error:  # noqa: BLE001 - `instead` raises it again if no record is at fault
                outputs = await self.poison.instead(batch, work, error)
            seconds = time.monotonic() - began
            batch = self.taken(event, batch, outputs, count, began=began, seconds=seconds)
            if not batch:
                return
            await self.last_delivered(batch)

    async def last_delivered(self, batch: RecordBatch) -> None:
        """Wait until what is in flight of a partition is delivered, and for a slot.

        If an outbox is full, its entries in flight must be delivered first.
        """
        if (last := self._lanes[batch.tp.partition].last) is not None:
            await asyncio.wait({last})
        await self.slot()

    def taken(
        self,
        event: EventT,
        batch: RecordBatch,
        outputs: Outputs,
        count: Count,
        *,
        began: float,
        seconds: float,
    ) -> RecordBatch:
        """Hand over what the engine made of the first records of a batch; return the others.

        began: when the engine was called, by the monotonic clock. seconds: that it took.
        """
        part, rest = batch.cut(outputs.taken)
        self.live_at = time.monotonic()
        if min(outputs.dues.values(), default=NEVER) < self.now() - MILLISECONDS_A_DAY:
            self.history_at = self.live_at
        if part:
            self.meters.engine[self.topics.role(part.tp.topic)].observe(seconds)
            span = self.traces.batch(part, outputs, seconds)
            count(part, outputs)
            done, end = None if rest else event, part.last_offset + 1
            self.hand_over(part, outputs, done, end=end, began=began, span=span)
        else:
            self.slots.release()
        return rest

    def _exchange(self, batch: RecordBatch) -> Outputs:
        return exchange(
            self.states(batch.tp.partition),
            batch.origin,
            batch.records,
            self.context(batch.tp.partition),
            at_home=lambda key: self.is_home(key, batch.tp.partition),
            delivery_of=self.delivery_state,
        )

    def is_home(self, key: bytes, partition: int) -> bool:
        """Return whether a new customer's key belongs to a partition."""
        return home_partition(key, self.partitions) == partition

    async def know_dues(self, partition: int) -> None:
        """Read from a partition's records when customers are due, unless that is known."""
        context = self.context(partition)
        if not self.dues.knows(partition, context):
            clock = f"{self.topics.clock}/{partition}"
            await self.dues.build(
                partition,
                self.states(partition),
                context,
                lambda origin, offset: (
                    origin == clock and self.delivery_state(origin, offset) is DeliveryState.UNKNOWN
                ),
            )

    def context(self, partition: int) -> Context:
        """Return the partition's context; it is rebuilt only when something changes."""
        first = 0 if self.keeper is None else self.keeper.first_version(partition)
        known = self._contexts.get(partition)
        timeline, rules = self.feed.timeline, self.feed.rules
        if (
            known
            and known.parameters is timeline
            and known.rules is rules
            and known.first_version == first
        ):
            return known
        context = self._contexts[partition] = Context(
            self.economics,
            timeline,
            rules,
            erasure_key=self._erasure_key,
            first_version=first,
            refresh=self._refresh,
            explained=self._explained,
        )
        return context

    def states(self, partition: int) -> Mapping[bytes, bytes]:
        """Return the records of a partition; raises ErasureKeyChanged if the secret differs."""
        states = self.table.partition(partition)
        check_key(states, partition, self._erasure_key)
        return states

    def delivery_state(self, origin: str, offset: int) -> DeliveryState:
        """Return how far the outputs of a record are that was applied."""
        progress = self._progress[origin]
        if offset < progress.delivered:
            return DeliveryState.DELIVERED
        if offset < progress.handed_over:
            return DeliveryState.IN_FLIGHT
        if self.keeper is not None and self.keeper.is_former(origin):
            delivered = self.keeper.was_committed(origin, offset)
        else:
            delivered = offset < self._committed_to(origin)
        return DeliveryState.DELIVERED if delivered else DeliveryState.UNKNOWN

    def _committed_to(self, origin: str) -> int:
        committed: int = self.app.consumer.committed_to(origin_parts(origin)[0])
        return committed

    def hand_over(
        self,
        batch: RecordBatch,
        outputs: Outputs,
        event: EventT | None = None,
        *,
        end: int | None = None,
        began: float | None = None,
        span: BatchSpan = UNTRACED,
    ) -> asyncio.Task[None]:
        """Store the records in memory, and start delivering the outputs.

        Nothing is awaited between reading the states and this call, and each call queues behind the
        previous one of the partition, so the changelog gets a customer's records in order.
        """
        partition = batch.tp.partition
        basis = None if self.keeper is None else self.keeper.refreshed(batch)
        if basis is not None:
            outputs.records[BASIS_KEY] = basis
        # With each basis, so that both are found near the end of the changelog.
        without_key = outputs.records and ERASURE_KEY not in self.table.partition(partition)
        if without_key or basis is not None:
            outputs.records[ERASURE_KEY] = erasure_fingerprint(self._erasure_key)
        self.table.update_partition(batch.tp, outputs.records)
        self.dues.note(partition, outputs.dues)
        progress = self._progress[batch.origin]
        for letter in (*outputs.dead_letters, *outputs.notices):
            self.refusals.note(letter.refused, *published_at(batch, letter))
        if end is not None:
            progress.handed_over = end
        first = [each for _, sent in self._send(Stage.BEFORE, batch, outputs) for each in sent]
        self.in_work += 1
        work = _Work(batch, outputs, first, progress, end, event, began, span)
        task = self._lanes[partition].last = asyncio.create_task(self._deliver(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _send(
        self,
        stage: Stage,
        batch: RecordBatch,
        outputs: Outputs,
        header: tuple[str, bytes] | None = None,
    ) -> list[tuple[Output, list[asyncio.Future[Any]]]]:
        """Send the outputs of a stage to their topics; return the deliveries of each.

        header: that traced outputs carry besides their own.
        """
        producer: StrictDelivery = self.app.producer
        sent: list[tuple[Output, list[asyncio.Future[Any]]]] = []
        for output in OUTPUTS:
            if output.stage is not stage:
                continue
            topic = output.topic_name(self.topics)
            by_partition: defaultdict[int, list[OutgoingRecord]] = defaultdict(list)
            records = output.records(batch, outputs)
            if header is not None and output.traced:
                records = [(key, value, [*own, header]) for key, value, own in records]
            if output.at_home:
                for record in records:
                    by_partition[home_partition(record[0] or b"", self.partitions)].append(record)
            else:
                by_partition[batch.tp.partition] += records
            deliveries = [
                delivery
                for partition, records in by_partition.items()
                for delivery in producer.send_records(topic, partition, records)
            ]
            sent.append((output, deliveries))
        return sent

    async def slot(self) -> None:
        """Wait until another batch may await its deliveries; raise the error if one has failed."""
        await self.slots.acquire()
        if self.failure is not None:
            raise self.failure

    async def _deliver(self, work: _Work) -> None:
        """Take the steps of the module's docstring in order; stop the worker if one fails.

        After a crash, records up to a stored applied offset count as replayed: they produce neither
        dead letters nor rerouted records again, which are delivered before later state is stored.
        """
        partition = work.batch.tp.partition
        lane, span = self._lanes[partition], work.span
        followed: asyncio.Future[None] | None = None
        try:
            async with lane.store:
                await self._acknowledged(work.first)
                if lane.followed is not None:
                    await self._acknowledged([lane.followed])
                    lane.followed = None
                if any(each.route.via is not None for each in work.outputs.rerouted):
                    followed = lane.followed = asyncio.get_running_loop().create_future()
                stored = self.table.send_items(partition, work.outputs.records)
            async with lane.publish:
                await self._acknowledged(stored)
                span.reached("stored")
                if work.outputs.erased:
                    self.table.erased(partition)
                sent = self._send(Stage.AFTER, work.batch, work.outputs, span.header)
            async with lane.cache:
                written = [
                    delivery
                    for output, deliveries in sent
                    for delivery in await self._acknowledged(deliveries)
                    if output.cached
                ]
                span.reached("published")
                if followed is not None:
                    followed.set_result(None)
                self._update_cache(partition, work.outputs, written)
                if work.end is not None:
                    work.progress.delivered = work.end
            await self.cache.flush()
            if work.event is not None:
                work.event.ack()
            self.last_done = time.monotonic()
            if work.began is not None:
                self._measure(work.batch, self.last_done - work.began)
            span.end()
        except asyncio.CancelledError as error:
            if _is_cancelled():
                raise
            # Not this task but an awaited delivery was cancelled, which is a failure.
            span.end(error)
            await self.stop_for(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be committed
            span.end(error)
            await self.stop_for(error)
        finally:
            if followed is not None and not followed.done():
                followed.set_result(None)
            self.in_work -= 1
            self.slots.release()

    def _measure(self, batch: RecordBatch, seconds: float) -> None:
        """Note how long a delivered batch took, and how long ago its oldest record came."""
        role = self.topics.role(batch.tp.topic)
        self.meters.batches[role].observe(seconds)
        age = (self.now() - batch.records[0].timestamp) / 1000
        self.meters.latency[role].observe(max(0.0, age))

    async def _acknowledged(self, deliveries: Iterable[asyncio.Future[Any]]) -> list[Any]:
        """Wait for deliveries; raise the error if another batch has failed."""
        delivered = await asyncio.gather(*deliveries)
        if self.failure is not None:
            raise self.failure
        return delivered

    def _update_cache(self, partition: int, outputs: Outputs, written: Iterable[Delivery]) -> None:
        offsets = positions(written)
        if offsets is None:
            self.cache.unsure(partition)
            return
        start, end = (offsets[0], offsets[-1] + 1) if offsets else (None, None)
        self.cache.submit(partition, end, *cached(outputs, offsets), start=start)

    async def stop_for(self, error: BaseException) -> None:
        """Stop the app, as this batch cannot be processed, or its outputs are not delivered."""
        if self.failure is None:
            self.failure = error
            await self.app.crash(error)


def _is_cancelled() -> bool:
    """Return whether the current task was cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _now() -> int:
    return time.time_ns() // 1_000_000
