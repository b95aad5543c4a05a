"""A Faust table that is written in batches and knows which keys a partition has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import faust
import structlog
from faust.exceptions import ImproperlyConfigured
from faust.stores import memory
from faust.types import TP

from streams.transport.batches import RecordBatch
from streams.transport.copyfile import MAX_AGE_SECONDS
from streams.transport.durable import DurableStore
from streams.transport.frames import Changes, Mark, apply, record_digest
from streams.transport.lease import Lease, Term, now
from streams.transport.producer import NO_HEADERS, Delivery, StrictDelivery

log = structlog.get_logger(__name__)

_Rows = Iterator[tuple[bytes, bytes | None]]


class PartitionedStore(memory.Store):  # type: ignore[misc]
    """Bytes by key in memory, one dictionary per partition.

    It knows the changelog mark as of which each partition is complete, so that a recovery reads
    only what follows.
    """

    durable: DurableStore | None = None
    """The copy on disk, if there is one."""

    lease: Lease | None = None
    """The worker's membership in the group."""

    digest_key: bytes = b""
    """The secret of the digests in marks."""

    def __post_init__(self) -> None:
        # Faust's view of the contents: always empty, and read-only.
        self.data: Mapping[bytes, bytes] = MappingProxyType({})
        self.partitions: dict[int, dict[bytes, bytes]] = {}
        self._marks: dict[int, Mark] = {}
        self._terms: dict[int, Term] = {}
        self._unsent: Counter[int] = Counter()
        self._behind: dict[int, dict[bytes, bytes | None]] = {}

    def partition(self, number: int) -> dict[bytes, bytes]:
        """Return keys and values of one partition."""
        return self.partitions.setdefault(number, {})

    async def begin(self, number: int) -> Mark | None:
        """Prepare a partition for recovery; return the mark to read on from, or None.

        Memory is kept if it has a mark; otherwise the copy on disk is loaded.
        """
        self._behind.pop(number, None)
        if self._unsent.pop(number, 0):
            # Changed, but never sent to the changelog.
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
        """Apply one record batch of the changelog; a record without a value deletes the key."""
        number = batch.tp.partition
        changes = {record.key: record.value for record in batch.records}
        apply(self.partition(number), changes)
        if (behind := self._behind.get(number)) is not None:
            behind.update(changes)
        last = batch.records[-1]
        digest = self.digest(last.key, last.value)
        self._marks[number] = Mark(last.offset + 1, last.offset, digest)

    def digest(self, key: bytes, value: bytes | None) -> bytes:
        """Return the digest of a record for a mark."""
        return record_digest(key, value, self.digest_key)

    def finish(self, number: int, end: int) -> None:
        """Note that the changelog of a partition is applied up to this offset."""
        mark = self._marks[number] = self._marks.get(number, Mark(end))._replace(next=end)
        term = self._terms[number] = Term() if self.lease is None else self.lease.term
        if self.durable is None:
            return
        if (behind := self._behind.pop(number, None)) is not None:
            self.durable.write(number, behind, mark, term)
        else:
            self.durable.rewrite(number, self.partition(number), mark, term)

    def forget(self, number: int) -> None:
        """Clear a partition."""
        self.partition(number).clear()
        self._marks.pop(number, None)
        self._behind.pop(number, None)

    def will_send(self, number: int, keys: int) -> None:
        """Note that so many keys of a partition were changed and are still to be sent."""
        self._unsent[number] += keys

    def sent(self, number: int, rows: _Rows, deliveries: Sequence[asyncio.Future[Any]]) -> None:
        """Note that these rows were sent to the changelog, in this order, in these deliveries."""
        for delivery in deliveries:
            delivery.add_done_callback(partial(self._acknowledged, number, rows))

    def _acknowledged(self, number: int, rows: _Rows, delivery: asyncio.Future[Delivery]) -> None:
        mark = self._marks.get(number)
        if mark is None:
            return
        if delivery.cancelled() or delivery.exception() is not None:
            # A delivery failed: the worker stops, and this partition has no valid mark.
            del self._marks[number]
            return
        start, end = delivery.result()
        if start != mark.next:
            # Other records lie between: the mark stays, and the next recovery reads from there.
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
        """Forget all other partitions: other workers have them now."""
        for number in self.partitions.keys() - partitions:
            self.forget(number)
            del self.partitions[number]
            self._unsent.pop(number, None)
            self._terms.pop(number, None)
        if self.durable is not None:
            await self.durable.keep_only(partitions)

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Do nothing: the recovery has called `keep_only`."""

    async def on_stop(self) -> None:
        """Finish the copy on disk."""
        await super().on_stop()
        if self.durable is not None:
            await self.durable.close()


class PartitionedTable(faust.Table):  # type: ignore[misc]
    """A Faust table of bytes by key, kept in memory by partition and written in batches.

    Use `update_partition` and `send_items`; `table[key] = value` is refused.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, key_type=bytes, value_type=bytes, **kwargs)
        if self.use_partitioner:
            raise ImproperlyConfigured(
                f"table {self.name!r}: use_partitioner=True writes to partitions that this worker "
                "may not own; leave it off"
            )

    def on_key_set(self, key: bytes, value: bytes) -> None:  # noqa: ARG002
        """Refuse writes of single keys; raises TypeError."""
        raise TypeError(f"table {self.name!r} is written by update_partition and send_items")

    def on_key_del(self, key: bytes) -> None:
        """Refuse it as well."""
        self.on_key_set(key, b"")

    def on_clear(self) -> None:
        """Refuse it as well."""
        self.on_key_set(b"", b"")

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
        """Have former values of a partition, acknowledged by now, removed from its copy."""
        if self.durable is not None:
            self.durable.erased(number)

    def partition(self, number: int) -> Mapping[bytes, bytes]:
        """Return keys and values of one partition of this worker."""
        view: Mapping[bytes, bytes] = self.data.partition(number)
        return view

    def update_partition(self, source: TP, items: Changes) -> None:
        """Set many keys of the partition of a batch, without sending them to the changelog yet.

        source: the topic-partition of the batch. None deletes the key. The caller sends them with
        `send_items` before it acknowledges the batch that changed them.

        Raises PartitionsMismatch if that topic has another number of partitions than the changelog.
        """
        self._verify_source_topic_partitions(source.topic)
        self.data.will_send(source.partition, len(items))
        apply(self.data.partition(source.partition), items)

    def put(self, partition: int, items: Changes) -> list[asyncio.Future[Any]]:
        """Set keys outside of stream iteration, and send them; return the deliveries.

        Only for keys that no stream writes, in a partition of this worker.
        """
        self.data.will_send(partition, len(items))
        apply(self.data.partition(partition), items)
        return self.send_items(partition, items)

    def send_items(self, partition: int, items: Changes) -> list[asyncio.Future[Any]]:
        """Send keys and values, None for deleted keys; return the deliveries."""
        rows = list(items.items())
        producer: StrictDelivery = self.app.producer
        deliveries = producer.send_records(
            self.changelog_topic_name,
            partition,
            ((key, value, NO_HEADERS) for key, value in rows),
        )
        self.data.will_send(partition, -len(rows))
        self.data.sent(partition, iter(rows), deliveries)
        return deliveries
