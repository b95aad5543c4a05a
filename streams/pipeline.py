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
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from models.acceptance import FUTURE_TOLERANCE
from models.aggregate.fold import milliseconds
from models.aggregate.record import BASIS_KEY, ERASURE_KEY, Cause, erasure_fingerprint
from models.calendar import MILLISECONDS_A_DAY
from models.context import Context
from models.contracts import Reason, Refused
from models.contracts.clock import Tick
from models.engine import Intake, advance, exchange, process, process_together
from models.outbox import DeliveryState
from models.outputs import Outputs, Record, RefusedRecord
from models.oversized import check_unpacked
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
from streams.poison import Poison, Suspected
from streams.refusals import RefusalLog
from streams.registry.records import rules_key
from streams.settings import Settings
from streams.tracing.traces import NO_TRACES, UNTRACED, BatchSpan, Traces
from streams.transport import EventT
from streams.transport.batches import RecordBatch, origin_parts
from streams.transport.producer import Delivery, OutgoingRecord, StrictDelivery
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

IN_WORK = 16
"""Batches that may await deliveries at once: enough to keep the processor busy."""

TOGETHER = 500
"""Records of batches that are folded together at most; a batch of more is folded alone."""

SWEEP_DUE = 100
"""Customers that are looked at at once when they are due. It takes longer than scoring them."""

SWEEP = 500
"""Customers that a tick scores at once. The next ones wait for the delivery of these: live events
are processed in between, and wait for about 0.1 s at most."""

PARAMETERS_SECONDS = 20.0
"""How long a tick waits for the parameters it names; a rebalance waits for the tick."""


Count = Callable[[RecordBatch, Outputs], None]
"""Counts what was made of a batch."""


PAUSE_SECONDS = 0.01
"""How long batches may gather after few records were folded; no longer than that took."""


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
        self.pause_seconds = PAUSE_SECONDS
        """How long batches may gather; whoever runs the worker may set another time."""
        self.refusals = RefusalLog()
        """What was refused; whoever runs the worker has it logged."""
        self.in_work = 0
        """Calls of the engine whose deliveries are awaited."""
        self.last_done = time.monotonic()
        """When outputs were last delivered, by the monotonic clock."""
        self.dues = Dues()
        self.swept: dict[int, int] = {}
        """As of when a partition's customers were last looked at who were due."""
        self.history_at = -math.inf
        """When events were last folded that are more than a day old, by the monotonic clock."""
        self._contexts: dict[int, Context] = {}
        self._recent = Recent()
        self._erasure_key = settings.erasure_secret
        self._refresh = settings.refresh
        self._explained = settings.explain_values
        self._poison = Poison(table, self._committed_to, settings.topics.identity)
        self._slots = asyncio.Semaphore(IN_WORK)
        self._sweeping = asyncio.Semaphore()
        self._failure: BaseException | None = None
        self._waiting: deque[EventT] = deque()
        self._room = asyncio.Semaphore(IN_WORK)
        """For batches that wait to be folded."""
        self._folding: asyncio.Task[None] | None = None
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

    async def fold(self, event: EventT) -> None:
        """Have a batch of input records folded, with those of other partitions that wait.

        It returns when there is room for another one. An error stops the app.
        """
        await self._room.acquire()
        if self._failure is not None:
            raise self._failure
        self._waiting.append(event)
        if self._folding is None:
            self._folding = asyncio.create_task(self._fold_waiting())

    async def _fold_waiting(self) -> None:
        """Fold the batches that wait, until there are none."""
        try:
            # What was fetched together is to wait together.
            await asyncio.sleep(0)
            while self._waiting:
                began = time.monotonic()
                await self._slot()
                events = await self._next_together()
                await self._fold_together(events)
                for _ in events:
                    self._room.release()
                if sum(len(event.value) for event in events) < TOGETHER:
                    await asyncio.sleep(min(time.monotonic() - began, self.pause_seconds))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be folded
            await self._stop_for(error)
        else:
            self._folding = None

    async def _next_together(self) -> list[EventT]:
        """Take the batches to fold next: one of each partition, and not too many records.

        The caller has a slot for the first; this takes one for each of the others.
        """
        events = [self._waiting.popleft()]
        records, partitions = len(events[0].value), {events[0].value.tp.partition}
        later: list[EventT] = []
        while self._waiting:
            event = self._waiting.popleft()
            batch: RecordBatch = event.value
            fits = records + len(batch) <= TOGETHER and not self._slots.locked()
            if fits and batch.tp.partition not in partitions:
                await self._slots.acquire()
                events.append(event)
                records += len(batch)
            else:
                later.append(event)
            # Batches of a partition stay in order.
            partitions.add(batch.tp.partition)
        self._waiting.extend(later)
        return events

    async def _fold_together(self, events: Sequence[EventT]) -> None:
        """Run the engine once on batches of several partitions; the caller has a slot for each."""
        batches: list[RecordBatch] = [event.value for event in events]
        for batch in batches:
            self._poison.forgive(batch)
        began, together = time.monotonic(), None
        if len(batches) > 1:
            # If one makes the engine raise, they are folded one by one, to learn which it is.
            with suppress(Exception):
                together = process_together(
                    [self._intake(batch) for batch in batches],
                    now=self.now(),
                    recent=self._recent,
                )
        if together is None:
            for event, batch in zip(events, batches, strict=True):
                await self._process(event, batch, self._fold, self._count_folded)
            return
        seconds = (time.monotonic() - began) / len(batches)
        count, left = self._count_folded, []
        for event, batch, outputs in zip(events, batches, together, strict=True):
            rest = self._taken(event, batch, outputs, count, began=began, seconds=seconds)
            if rest:
                left.append((event, rest))
        for event, rest in left:
            await self._last_delivered(rest)
            await self._process(event, rest, self._fold, count)

    async def exchange(self, event: EventT) -> None:
        """Process the messages of merged and erased customers of other partitions."""
        self._poison.forgive(event.value)
        await self._slot()
        await self._process(
            event,
            event.value,
            self._exchange,
            lambda _batch, outputs: self.counts.add_published(outputs),
        )

    async def _process(
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
                outputs = await self._poison.instead(batch, work, error)
            seconds = time.monotonic() - began
            batch = self._taken(event, batch, outputs, count, began=began, seconds=seconds)
            if not batch:
                return
            await self._last_delivered(batch)

    async def _last_delivered(self, batch: RecordBatch) -> None:
        """Wait until what is in flight of a partition is delivered, and for a slot.

        If an outbox is full, its entries in flight must be delivered first.
        """
        if (last := self._lanes[batch.tp.partition].last) is not None:
            await asyncio.wait({last})
        await self._slot()

    def _taken(
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
        if min(outputs.dues.values(), default=NEVER) < self.now() - MILLISECONDS_A_DAY:
            self.history_at = time.monotonic()
        if part:
            self.meters.engine[self.topics.role(part.tp.topic)].observe(seconds)
            span = self.traces.batch(part, outputs, seconds)
            count(part, outputs)
            done, end = None if rest else event, part.last_offset + 1
            self._hand_over(part, outputs, done, end=end, began=began, span=span)
        else:
            self._slots.release()
        return rest

    def _count_folded(self, batch: RecordBatch, outputs: Outputs) -> None:
        self.counts.add(outputs, len(batch))
        self.meters.count(self.topics.role(batch.tp.topic), outputs)

    def _fold(self, batch: RecordBatch) -> Outputs:
        return process(**self._intake(batch)._asdict(), now=self.now(), recent=self._recent)

    def _intake(self, batch: RecordBatch) -> Intake:
        return Intake(
            self._states(batch.tp.partition),
            batch.origin,
            batch.records,
            self.context(batch.tp.partition),
            role=self.topics.role(batch.tp.topic),
            at_home=lambda key: self._is_home(key, batch.tp.partition),
            delivery_of=self._delivery_state,
        )

    def _exchange(self, batch: RecordBatch) -> Outputs:
        return exchange(
            self._states(batch.tp.partition),
            batch.origin,
            batch.records,
            self.context(batch.tp.partition),
            at_home=lambda key: self._is_home(key, batch.tp.partition),
            delivery_of=self._delivery_state,
        )

    def _is_home(self, key: bytes, partition: int) -> bool:
        return home_partition(key, self.partitions) == partition

    async def pass_time(self, event: EventT) -> None:
        """Process ticks: score all customers of a partition for each record of a batch."""
        batch: RecordBatch = event.value
        in_flight: set[asyncio.Task[None]] = set()
        await self._sweeping.acquire()
        mine = True
        try:
            await self._slot()
            self._poison.forgive(batch)
            for record in batch.records:
                try:
                    for outputs in await self._tick(batch, record):
                        self.counts.add(outputs, 0)
                        task = self._hand_over(batch, outputs)
                        in_flight.add(task)
                        task.add_done_callback(in_flight.discard)
                        task.add_done_callback(lambda _task: self._sweeping.release())
                        mine = False
                        await self._sweeping.acquire()
                        mine = True
                        await self._slot()
                except Suspected as found:
                    await self._poison.strike(batch, record, found.key.decode(), found.error)
        finally:
            if mine:
                self._sweeping.release()
        if in_flight:
            await asyncio.wait(in_flight)
        self._hand_over(batch, Outputs(), event, end=batch.last_offset + 1)

    async def _tick(self, batch: RecordBatch, record: Record) -> Iterable[Outputs]:
        try:
            check_unpacked(record.value, batch.origin)
            tick = Tick.model_validate_json(record.value or b"")
        except Refused as error:
            return [Outputs(dead_letters=[RefusedRecord(record, error)])]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            refused = Refused(Reason.INVALID_FIELD, where, f"{where}: {first['msg']}")
            return [Outputs(dead_letters=[RefusedRecord(record, refused)])]
        as_of = milliseconds(tick.as_of)
        if as_of > self.now() + FUTURE_TOLERANCE:
            refused = Refused(
                Reason.FUTURE,
                "as_of",
                f"as_of is {tick.as_of.isoformat()}, more than a day ahead; time does not go back, "
                "so nobody is valued as of then",
            )
            return [Outputs(dead_letters=[RefusedRecord(record, refused)])]
        if tick.due:
            await self.know_dues(batch.tp.partition)
            return self._sweep_due(batch, record, as_of)
        wanted = [] if tick.parameters is None else [tick.parameters]
        if tick.rules is not None:
            wanted.append(rules_key(tick.rules).decode())
        for each in wanted:
            if not await self.feed.wait_for(each, PARAMETERS_SECONDS):
                log.warning(
                    "a tick asks for parameters or rules that have not arrived", wanted=each
                )
                # Waiting in vain counts as progress, or the watchdog would end the worker.
                self.last_done = time.monotonic()
        cause: Cause = "time" if tick.parameters is None else "model"
        if tick.rules is not None:
            cause = "rules"
        return self._sweep(batch, record, as_of, cause)

    def _sweep(
        self, batch: RecordBatch, record: Record, as_of: int, cause: Cause
    ) -> Iterator[Outputs]:
        keys = list(self._states(batch.tp.partition))
        yield from self._advance(batch, record, as_of, keys, SWEEP, cause=cause)
        self.counts.ticks += 1

    def _sweep_due(self, batch: RecordBatch, record: Record, as_of: int) -> Iterator[Outputs]:
        partition = batch.tp.partition
        keys = self.dues.take(partition, as_of)
        yield from self._advance(batch, record, as_of, keys, SWEEP_DUE, due_only=True)
        self.swept[partition] = as_of

    def _advance(
        self,
        batch: RecordBatch,
        record: Record,
        as_of: int,
        keys: Iterable[bytes],
        at_once: int,
        *,
        cause: Cause = "time",
        due_only: bool = False,
    ) -> Iterator[Outputs]:
        """Score these customers, so many at once; live batches pass in between."""
        states, left = self._states(batch.tp.partition), iter(keys)

        def score(chunk: Sequence[bytes]) -> Outputs:
            return advance(
                states,
                chunk,
                batch.origin,
                record.offset,
                self.context(batch.tp.partition),
                as_of=as_of,
                cause=cause,
                due_only=due_only,
                delivery_of=self._delivery_state,
            )

        while chunk := list(islice(left, at_once)):
            yield from self._poison.scored(batch, record, chunk, score)

    async def know_dues(self, partition: int) -> None:
        """Read from a partition's records when customers are due, unless that is known."""
        context = self.context(partition)
        if not self.dues.knows(partition, context):
            clock = f"{self.topics.clock}/{partition}"
            await self.dues.build(
                partition,
                self._states(partition),
                context,
                lambda origin, offset: (
                    origin == clock
                    and self._delivery_state(origin, offset) is DeliveryState.UNKNOWN
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

    def _states(self, partition: int) -> Mapping[bytes, bytes]:
        """Return the records of a partition; raises ErasureKeyChanged if the secret differs."""
        states = self.table.partition(partition)
        check_key(states, partition, self._erasure_key)
        return states

    def _delivery_state(self, origin: str, offset: int) -> DeliveryState:
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

    def _hand_over(
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

    async def _slot(self) -> None:
        await self._slots.acquire()
        if self._failure is not None:
            raise self._failure

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
            await self._stop_for(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be committed
            span.end(error)
            await self._stop_for(error)
        finally:
            if followed is not None and not followed.done():
                followed.set_result(None)
            self.in_work -= 1
            self._slots.release()

    def _measure(self, batch: RecordBatch, seconds: float) -> None:
        """Note how long a delivered batch took, and how long ago its oldest record came."""
        role = self.topics.role(batch.tp.topic)
        self.meters.batches[role].observe(seconds)
        age = (self.now() - batch.records[0].timestamp) / 1000
        self.meters.latency[role].observe(max(0.0, age))

    async def _acknowledged(self, deliveries: Iterable[asyncio.Future[Any]]) -> list[Any]:
        """Wait for deliveries; raise the error if another batch has failed."""
        delivered = await asyncio.gather(*deliveries)
        if self._failure is not None:
            raise self._failure
        return delivered

    def _update_cache(self, partition: int, outputs: Outputs, written: Iterable[Delivery]) -> None:
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
    """Return whether the current task was cancelled itself."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _now() -> int:
    return time.time_ns() // 1_000_000
