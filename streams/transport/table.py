"""A Faust table that is written by the batch and knows which keys a partition holds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import faust
from faust.exceptions import ImproperlyConfigured
from faust.stores import memory
from faust.streams import current_event
from faust.types import TP, EventT

from streams.transport.batches import RecordBatch
from streams.transport.producer import NO_HEADERS


class PartitionedStore(memory.Store):  # type: ignore[misc]
    """Bytes by key in memory, one dictionary per partition."""

    def __post_init__(self) -> None:
        self.partitions: dict[int, dict[bytes, bytes]] = {}

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

    def restore(self, batch: RecordBatch) -> None:
        """Apply one record batch of the changelog; no value means the key is gone."""
        held = self.partition(batch.tp.partition)
        for record in batch.records:
            if record.value is None:
                held.pop(record.key, None)
            else:
                held[record.key] = record.value

    def keep_only(self, partitions: set[int]) -> None:
        """Forget all other partitions: somebody else has them now."""
        for number in self.partitions.keys() - partitions:
            del self.partitions[number]

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:
        """Forget partitions that are not this worker's."""
        self.keep_only({tp.partition for tp in active_tps | standby_tps})


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
        return PartitionedStore(
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

    def partition(self, number: int) -> Mapping[bytes, bytes]:
        """Keys and values of one partition of this worker."""
        view: Mapping[bytes, bytes] = self.data.partition(number)
        return view

    def update_partition(self, partition: int, items: Mapping[bytes, bytes]) -> None:
        """Set many keys of the partition in work, without telling the changelog yet.

        The caller sends them with `send_items` before the batch that changed them is acknowledged.

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
        self.data.partition(partition).update(items)

    def send_items(self, partition: int, items: Mapping[bytes, bytes]) -> list[asyncio.Future[Any]]:
        """Send keys and values to the changelog; returns the deliveries."""
        deliveries: list[asyncio.Future[Any]] = self.app.producer.send_records(
            self.changelog_topic_name,
            partition,
            ((key, value, NO_HEADERS) for key, value in items.items()),
        )
        return deliveries
