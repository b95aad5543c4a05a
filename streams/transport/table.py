"""A Faust table that is written by the batch and knows which keys a partition holds."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import faust
import structlog
from faust.exceptions import ImproperlyConfigured
from faust.stores import memory
from faust.streams import current_event
from faust.types import TP, EventT

from streams.transport.batches import RecordBatch
from streams.transport.copyfile import MAX_AGE_SECONDS
from streams.transport.durable import DurableStore
from streams.transport.frames import Changes, Mark, apply, record_digest
from streams.transport.lease import Lease, Term, now
from streams.transport.producer import NO_HEADERS, Delivery

log = structlog.get_logger(__name__)

_Rows = Iterator[tuple[bytes, bytes | None]]


class PartitionedStore(memory.Store):  # type: ignore[misc]
    """Bytes by key in memory, one dictionary per partition.

    Of each partition it knows as of which mark of the changelog it is complete, so that recovery
    reads what follows and nothing else.
    """

    durable: DurableStore | None = None
    """The copy on disk, if there is one."""

    lease: Lease | None = None
    """The worker's membership in the group."""

    digest_key: bytes = b""
    """Keys the digests in marks."""

    def __post_init__(self) -> None:
        self.partitions: dict[int, dict[bytes, bytes]] = {}
        self._marks: dict[int, Mark] = {}
        self._terms: dict[int, Term] = {}
        self._unsent: Counter[int] = Counter()
        self._behind: dict[int, dict[bytes, bytes | None]] = {}

    def partition(self, number: int) -> dict[bytes, bytes]:
        """Keys and values of one partition."""
        return self.partitions.setdefault(number, {})

    def __getitem__(self, key: bytes) -> bytes:
        for held in self.partitions.values():
            if key in held:
                return held[key]
        raise KeyError(key)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.partition(_partition_in_work())[key] = value

    def __delitem__(self, key: bytes) -> None:
        for held in self.partitions.values():
            if key in held:
                del held[key]
                return
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return any(key in held for held in self.partitions.values())

    def __iter__(self) -> Iterator[bytes]:
        for held in self.partitions.values():
            yield from held

    def __len__(self) -> int:
        return sum(map(len, self.partitions.values()))

    # Faust's own are for a store that is a single dictionary.
    keys = MutableMapping.keys
    values = MutableMapping.values
    items = MutableMapping.items
    update = MutableMapping.update

    def clear(self) -> None:
        """Forget everything."""
        self.partitions.clear()

    def apply_changelog_batch(
        self,
        batch: Iterable[EventT],
        to_key: Any,  # noqa: ARG002
        to_value: Any,  # noqa: ARG002
    ) -> None:
        """Apply record batches of the changelog, newest last."""
        for event in batch:
            self.restore(event.value)

    async def begin(self, number: int) -> Mark | None:
        """Prepare a partition for recovery; returns the mark to read on from, or none.

        What is in memory stays if the changelog says the same; else the copy on disk is loaded.
        """
        self._behind.pop(number, None)
        if self._unsent.pop(number, 0):
            # Changed, and never told to the changelog.
            self._marks.pop(number, None)
        if number in self._terms and self._terms[number].age > MAX_AGE_SECONDS:
            log.info("what is in memory of a partition is too old to be used", partition=number)
            self._marks.pop(number, None)
        mark = self._marks.get(number)
        if mark is None:
            self.forget(number)
            self._terms.pop(number, None)
        self._terms.setdefault(number, Term(now()))
        if self.durable is not None:
            copy = await self.durable.open(number, mark)
            if copy.mark is not None and (mark is None or copy.mark.next > mark.next):
                self.partitions[number] = copy.state
                mark = self._marks[number] = copy.mark
            if copy.mark == mark and mark is not None:
                self._behind[number] = {}
        return mark

    def restore(self, batch: RecordBatch) -> None:
        """Apply one record batch of the changelog; no value means the key is gone."""
        number = batch.tp.partition
        changes = {record.key: record.value for record in batch.records}
        apply(self.partition(number), changes)
        if (behind := self._behind.get(number)) is not None:
            behind.update(changes)
        last = batch.records[-1]
        digest = self.digest(last.key, last.value)
        self._marks[number] = Mark(last.offset + 1, last.offset, digest)

    def digest(self, key: bytes, value: bytes | None) -> bytes:
        """The digest of a record, as marks have it."""
        return record_digest(key, value, self.digest_key)

    def finish(self, number: int, end: int) -> None:
        """The changelog of a partition is applied up to this offset."""
        mark = self._marks[number] = self._marks.get(number, Mark(end))._replace(next=end)
        term = self._terms[number] = Term() if self.lease is None else self.lease.term
        if self.durable is None:
            return
        if (behind := self._behind.pop(number, None)) is not None:
            self.durable.write(number, behind, mark, term)
        else:
            self.durable.rewrite(number, self.partition(number), mark, term)

    def forget(self, number: int) -> None:
        """Begin a partition anew."""
        self.partition(number).clear()
        self._marks.pop(number, None)
        self._behind.pop(number, None)

    def will_send(self, number: int, keys: int) -> None:
        """So many keys of a partition were changed, and are still to be sent."""
        self._unsent[number] += keys

    def sent(self, number: int, rows: _Rows, deliveries: Sequence[asyncio.Future[Any]]) -> None:
        """These rows are on their way to the changelog, in this order, in these deliveries."""
        for delivery in deliveries:
            delivery.add_done_callback(partial(self._acknowledged, number, rows))

    def _acknowledged(self, number: int, rows: _Rows, delivery: asyncio.Future[Delivery]) -> None:
        mark = self._marks.get(number)
        if mark is None:
            return
        if delivery.cancelled() or delivery.exception() is not None:
            # The worker stops; until it has, nothing more is known of this partition.
            del self._marks[number]
            return
        start, end = delivery.result()
        if start != mark.next:
            # Others' records lie between: the mark stays, and the next recovery reads from there.
            self._terms[number] = self._terms[number].ended()
            if self.durable is not None:
                self.durable.fell_behind(
                    number, f"the changelog goes on at offset {start}, after {mark.next} is known"
                )
            return
        changes = dict(islice(rows, end - start))
        last = next(reversed(changes))
        mark = Mark(end, end - 1, self.digest(last, changes[last]))
        self._marks[number] = mark
        if self.durable is not None:
            self.durable.write(number, changes, mark, self._terms[number])

    async def keep_only(self, partitions: set[int]) -> None:
        """Forget all other partitions: somebody else has them now."""
        for number in self.partitions.keys() - partitions:
            self.forget(number)
            del self.partitions[number]
            self._unsent.pop(number, None)
            self._terms.pop(number, None)
        if self.durable is not None:
            await self.durable.keep_only(partitions)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Nothing: recovery itself made the store forget what is not this worker's."""

    async def on_stop(self) -> None:
        """Finish the copy on disk."""
        await super().on_stop()
        if self.durable is not None:
            await self.durable.close()


def _partition_in_work() -> int:
    event = current_event()
    if event is None:
        raise TypeError("a table can only be written from inside stream iteration")
    partition: int = event.message.partition
    return partition


class PartitionedTable(faust.Table):  # type: ignore[misc]
    """An ordinary Faust table of bytes by key, kept in memory by partition.

    `table[key] = value` works as in Faust. `update_partition` and `send_items` are the quick way:
    one batch to the changelog. The two ways must not be mixed for the same key: their order at the
    broker is not defined.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, key_type=bytes, value_type=bytes, **kwargs)
        if self.use_partitioner:
            raise ImproperlyConfigured(
                f"table {self.name!r}: use_partitioner=True writes to partitions that this worker "
                "may not own; leave it off"
            )

    def _new_store(self) -> PartitionedStore:
        store = PartitionedStore(
            "memory://",
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
            loop=self.loop,
        )
        store.lease = getattr(self.app, "lease", None)
        store.digest_key = getattr(self.app, "digest_key", b"")
        directory: Path | None = getattr(self.app, "state_dir", None)
        if directory is not None:
            partitions = self.partitions or self.app.conf.topic_partitions
            store.durable = DurableStore(directory, self.changelog_topic_name, partitions)
        return store

    @property
    def durable(self) -> DurableStore | None:
        """The copy on disk, if there is one."""
        copy: DurableStore | None = self.data.durable
        return copy

    def erased(self, number: int) -> None:
        """Former values of a partition, as acknowledged by now, must not stay in its copy."""
        if self.durable is not None:
            self.durable.erased(number)

    def partition(self, number: int) -> Mapping[bytes, bytes]:
        """Keys and values of one partition of this worker."""
        view: Mapping[bytes, bytes] = self.data.partition(number)
        return view

    def update_partition(self, partition: int, items: Changes) -> None:
        """Set many keys of the partition in work, without telling the changelog yet.

        No value deletes the key. The caller sends them with `send_items` before the batch that
        changed them is acknowledged.

        Raises
        ------
        TypeError
            outside of stream iteration, or for another partition than the one in work.
        """
        if (in_work := _partition_in_work()) != partition:
            raise TypeError(
                f"table {self.name!r}: partition {partition} cannot be written while partition "
                f"{in_work} is in work"
            )
        self.data.will_send(partition, len(items))
        apply(self.data.partition(partition), items)

    def put(self, partition: int, items: Changes) -> list[asyncio.Future[Any]]:
        """Set keys outside of stream iteration, and send them; returns the deliveries.

        For keys that no stream writes at the same time, of a partition of this worker.
        """
        self.data.will_send(partition, len(items))
        apply(self.data.partition(partition), items)
        return self.send_items(partition, items)

    def send_items(self, partition: int, items: Changes) -> list[asyncio.Future[Any]]:
        """Send keys and values, or none for keys that are gone; returns the deliveries."""
        rows = list(items.items())
        deliveries: list[asyncio.Future[Any]] = self.app.producer.send_records(
            self.changelog_topic_name,
            partition,
            ((key, value, NO_HEADERS) for key, value in rows),
        )
        self.data.will_send(partition, -len(rows))
        self.data.sent(partition, iter(rows), deliveries)
        return deliveries
