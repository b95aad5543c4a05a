"""A simulated driver for Faust's consumer, which reads lists instead of using aiokafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import copy_context
from typing import Any

from faust.transport import base
from faust.types import TP, ConsumerMessage

from streams.transport.memory.broker import MemoryBroker, Record
from streams.transport.memory.group import MemoryGroup


class MemoryConsumer(base.Consumer):  # type: ignore[misc]
    """Faust's consumer over the simulated broker, a member of its group."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.broker: MemoryBroker = self.transport.broker
        self.group: MemoryGroup = self.transport.group
        self.assignor = self.app.assignor
        self.context = copy_context()
        self.fetch_limit = self.app.conf.broker_max_poll_records
        self.positions: dict[TP, int] = {}
        self.topics: list[str] = []
        self.dead = False
        """Whether its process was killed; it then reads and commits nothing."""
        self._assigned: set[TP] = set()
        self._awake = asyncio.Event()

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group; the rebalance starts after this has returned, as Faust expects."""
        self.topics = sorted(topics)
        self.group.join(self)

    async def rebalance(self) -> None:
        """Revoke all partitions from all members, and assign them again."""
        await self.group.rebalance()

    async def revoke(self) -> None:
        """Give all partitions back."""
        self.app.on_rebalance_start()
        await self.on_partitions_revoked(set(self._assigned))

    async def assign(self) -> None:
        """Make the group assign all partitions."""
        await self.group.assign()

    async def take(self, assigned: set[TP], generation: int) -> None:
        """Take these partitions."""
        self._assigned = assigned
        self.app.consumer_generation_id = generation
        await self.on_partitions_assigned(set(assigned), generation)

    def die(self) -> None:
        """Stop reading and committing, and leave the group without a word."""
        self.dead = True
        self.group.leave(self)

    def stop_flow(self) -> None:
        """Stop the flow, and let a waiting fetch return."""
        super().stop_flow()
        self._awake.set()

    async def on_stop(self) -> None:
        """Commit finished work, and leave the group."""
        self._awake.set()
        await super().on_stop()
        self.group.leave(self)

    def assignment(self) -> set[TP]:
        """The partitions of this member."""
        return set(self._assigned)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Any:
        fetched: dict[TP, list[Record]] = {}
        if self.dead:
            await asyncio.get_running_loop().create_future()
        for again in (False, True):
            for tp in sorted(self._assigned & (active_partitions or set())):
                position = self.positions.get(tp, 0)
                if position >= self.broker.ends[tp]:
                    continue
                if records := self.broker.fetch(tp, position, self.fetch_limit):
                    fetched[tp] = records
                    self.positions[tp] = records[-1].offset + 1
            if again or fetched or not self.flow_active or self.should_stop:
                break
            await self.broker.wait_for_records(self._awake, timeout)
        return fetched

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return ConsumerMessage(
            *tp,
            record.offset,
            record.timestamp / 1000,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def seek_to_committed(self) -> Mapping[TP, int | None]:
        """Seek to the committed offsets."""
        committed = {tp: self.broker.committed.get(tp) for tp in self._assigned}
        self.positions.update({tp: offset or 0 for tp, offset in committed.items()})
        return committed

    async def _seek(self, partition: TP, offset: int) -> None:
        self.positions[partition] = offset

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek to these offsets."""
        self.positions.update(partitions)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        await self.broker.may_commit.wait()
        if self.dead:
            return False
        self.broker.commit(dict(offsets))
        return True

    async def position(self, tp: TP) -> int:
        """Return the offset that is fetched next."""
        return self.positions.get(tp, 0)

    def highwater(self, tp: TP) -> int:
        """Return the offset after the last record."""
        return self.broker.ends[tp]

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the offsets after the last records."""
        return {tp: self.broker.ends[tp] for tp in partitions}

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """Return the offsets of the first records."""
        logs = self.broker.logs
        return {tp: logs[tp][0].offset if logs[tp] else 0 for tp in partitions}

    def topic_partitions(self, topic: str) -> int | None:
        """Return how many partitions a topic has."""
        return self.broker.partitions.get(topic)

    async def create_topic(self, topic: str, partitions: int, *_: Any, **__: Any) -> None:
        """Create a topic."""
        self.broker.create_topic(topic, partitions)

    def key_partition(
        self,
        topic: str,  # noqa: ARG002
        key: bytes | None,  # noqa: ARG002
        partition: int | None = None,
    ) -> int:
        """Return the first partition: for records that name none."""
        return partition or 0

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)
