"""More partitions: every customer is stored where it is at home then, with the workers stopped.

Safe to be killed at any moment and to be run again. The order of the steps is what makes it so:

1. The changelog gets its new partitions, and each of them a basis that says the old count.
2. The other topics get theirs. Until the last has them, workers refuse since the counts differ;
   from then on, since every basis says another count than the topics have.
3. Misrouted records that no worker has read yet are sent to where their customers will be at home,
   on their lane, and committed in the old partition. Otherwise a worker would send them there, and
   newer records of the same publisher would overtake them.
4. What is remembered of erased customers is copied to where they may be at home.
5. Customers are written to their new partition; when that is acknowledged, they are deleted in the
   old one. The same with their published values.
6. The cache is made anew: its positions are offsets in the old partitions.
7. Every basis gets the new count. When one has it, everything before is done. It also says up to
   where the misrouted records of its partition come first. Their customers may be at home, now,
   where they were published: newer ones are no longer sent on, and would overtake them.

A step that is done again writes the same once more, as nobody else writes meanwhile.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType

import msgspec

from models.aggregate.record import BASIS_KEY, ERASURE_KEY
from streams.basis.judge import origin_key
from streams.basis.record import Basis, encode_basis
from streams.cache import KafkaUpdates, ScoreCache, rebuild
from streams.growing.group import Held
from streams.growing.moving import inherited, outgoing
from streams.growing.newest import newest_by_key
from streams.growing.stage import Stage, heirs_basis
from streams.growing.survey import Findings
from streams.kafka.clients import Admin, admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import committed_offsets, once_there
from streams.kafka.partitions import Bounds, Headers, TopicPartition, partitions_of
from streams.kafka.reading import log_bounds, read_logs
from streams.kafka.topics import enlarge
from streams.kafka.writing import Outgoing, RecordWriter, record_writer
from streams.outgoing import VERSION_HEADER
from streams.settings import Settings
from streams.topics import changelog_topic
from streams.transport.batches import origin_of

MOVED_VERSION = 0
"""Version in the tombstone of a value that was moved: lower than any that was published."""

_MOVED = [(VERSION_HEADER, str(MOVED_VERSION).encode())]


@dataclass(slots=True)
class Grown:
    """What a growth did.

    customers, updates, rerouted: moved records. remembered: copies of what is remembered of erased
    customers. cached: customers in Redis afterwards.
    """

    partitions_before: int
    partitions: int
    customers: int = 0
    updates: int = 0
    rerouted: int = 0
    remembered: int = 0
    cached: int = 0
    seconds: float = 0.0

    def document(self) -> dict[str, int | float]:
        """The same for --json."""
        return asdict(self)


async def grow(
    settings: Settings,
    broker: Broker,
    found: Findings,
    *,
    cache: ScoreCache,
    held: Held,
    step: Callable[[str], None] = lambda _step: None,
) -> Grown:
    """Do what was found to be done, while the group is held. step: told before each step.

    Errors: GrowthRefused if the group was lost; NotEnlarged if the broker makes no partitions;
    KafkaError, RedisError, UpdatesUnavailable if a server is away: then run it again.
    """
    began = time.monotonic()
    async with (
        admin_client(broker) as admin,
        record_writer(broker, idempotent=True) as writer,
    ):
        growing = _Growing(settings, broker, found, admin, writer, held, step)
        if found.standing.stage is not Stage.MOVED:
            await growing.topics()
            await growing.rerouted()
            await growing.erased()
            await growing.customers()
            await growing.updates()
            await growing.cache(cache)
        await growing.basis()
    growing.done.seconds = round(time.monotonic() - began, 1)
    return growing.done


@dataclass
class _Growing:
    _settings: Settings
    _broker: Broker
    _found: Findings
    _admin: Admin
    _writer: RecordWriter
    _held: Held
    _tell: Callable[[str], None]

    def __post_init__(self) -> None:
        self._growth = self._found.standing.growth
        self._bases: dict[int, Basis] = dict(self._found.stored.bases)
        self._heirs = heirs_basis(self._bases, self._growth.old)
        self._changelog = changelog_topic(self._settings)
        self._updates = self._settings.topics.updates
        self.done = Grown(self._growth.old, self._growth.new)

    def _step(self, what: str) -> None:
        self._tell(what)
        self._held.check()

    async def topics(self) -> None:
        """Give the topics their partitions; the changelog first."""
        smaller, count = self._found.smaller, self._growth.new
        self._step(f"create partitions of {self._changelog}")
        await enlarge(self._admin, [t for t in smaller if t == self._changelog], count)
        self._step("say in the new partitions that they are not in use yet")
        await self._write_bases(self._growth.old, only_missing=True)
        self._step("create partitions of the other topics")
        await enlarge(self._admin, [t for t in smaller if t != self._changelog], count)

    async def rerouted(self) -> None:
        """Send misrouted records that were not read on to their customers' new partitions.

        Those of one lane stay in their order. One that is sent twice is recognised by its lane.
        """
        topic = self._settings.topics.rerouted
        unread = await self._misrouted(self._growth.old)
        if not unread:
            return
        self._step("send misrouted records that were not read to their new partitions")
        async for tp, records in read_logs(self._broker, unread):
            by_partition: defaultdict[int, list[Outgoing]] = defaultdict(list)
            for record in records:
                home = tp.partition if record.key is None else self._growth.home(record.key)
                headers = [(name, content or b"") for name, content in record.headers]
                by_partition[home].append(
                    Outgoing(record.key, record.value, headers, record.timestamp)
                )
            await self._write(topic, by_partition)
            self.done.rerouted += len(records)
        await self._held.commit({tp: part.end for tp, part in unread.items()})

    async def _misrouted(self, partitions: int) -> dict[TopicPartition, Bounds]:
        """Where the misrouted records are that no worker has read, in the first partitions."""
        topic, group = self._settings.topics.rerouted, self._settings.app_id
        tps = partitions_of({topic: partitions})
        committed = await once_there(lambda: committed_offsets(self._admin, group, tps))
        unread: dict[TopicPartition, Bounds] = {}
        for tp, log in (await log_bounds(self._broker, tps)).items():
            begin = max(committed.get(tp, 0), log.begin)
            if begin < log.end:
                unread[tp] = Bounds(begin, log.end)
        return unread

    async def erased(self) -> None:
        """Copy what is remembered of erased customers to where they may be at home."""
        stored = self._found.stored
        secret = next(iter(stored.erasure.values()), None)
        by_partition: dict[int, list[Outgoing]] = {}
        for partition in range(self._growth.new):
            rows = inherited(partition, stored.forgotten, self._growth)
            self.done.remembered += len(rows)
            if secret is not None and partition not in stored.erasure:
                rows[ERASURE_KEY] = secret
            if rows:
                by_partition[partition] = [Outgoing(key, data) for key, data in rows.items()]
        self._step("copy what is remembered of erased customers")
        await self._write(self._changelog, by_partition)

    async def customers(self) -> None:
        """Write customers to their new partitions, and delete them in the old ones."""
        growth = self._growth
        async for partition, newest in newest_by_key(self._broker, self._changelog, growth.old):
            held = {key: record.value for key, record in newest.items() if record.value is not None}
            leaving = outgoing(held, partition, growth)
            rows = [Outgoing(key, data) for key, data in leaving.items()]
            await self._move(self._changelog, partition, rows, ())
            self.done.customers += len(rows)

    async def updates(self) -> None:
        """Write published values to their customers' new partitions, and delete the old ones."""
        growth = self._growth
        async for partition, newest in newest_by_key(self._broker, self._updates, growth.old):
            rows = [
                Outgoing(
                    key, record.value, [(name, content or b"") for name, content in record.headers]
                )
                for key, record in newest.items()
                if record.value is not None and growth.home(key) != partition
            ]
            await self._move(self._updates, partition, rows, _MOVED)
            self.done.updates += len(rows)

    async def _move(
        self, topic: str, partition: int, rows: Iterable[Outgoing], headers: Headers
    ) -> None:
        by_home: defaultdict[int, list[Outgoing]] = defaultdict(list)
        gone: list[Outgoing] = []
        for row in rows:
            if row.key is not None:
                by_home[self._growth.home(row.key)].append(row)
                gone.append(Outgoing(row.key, None, headers))
        self._step(f"copy from {topic}[{partition}]")
        await self._write(topic, by_home)
        self._step(f"delete in {topic}[{partition}]")
        await self._write(topic, {partition: gone})

    async def cache(self, cache: ScoreCache) -> None:
        """Make the cache anew."""
        self._step("clear the cache")
        await cache.clear()
        self._step("fill the cache")
        partitions = self._growth.new
        updates = KafkaUpdates(self._broker, self._updates, partitions=partitions)
        await rebuild(cache, updates, range(partitions))
        self.done.cached = await cache.size()

    async def basis(self) -> None:
        """Say the new count everywhere; from the first of these on, all else is done."""
        first: dict[int, int] = {}
        async for tp, records in read_logs(self._broker, await self._misrouted(self._growth.new)):
            first[tp.partition] = records[-1].offset + 1
        self._step("say in every partition that it is in use")
        await self._write_bases(self._growth.new, only_missing=False, first=first)

    async def _write_bases(
        self, count: int, *, only_missing: bool, first: Mapping[int, int] = MappingProxyType({})
    ) -> None:
        """Say in every partition for how many it is stored.

        first: by partition, up to which offset its misrouted records are processed before others.
        """
        if self._heirs is None:
            return
        by_partition: dict[int, list[Outgoing]] = {}
        for partition in range(self._growth.new):
            if only_missing and partition in self._bases:
                continue
            own = self._bases.get(partition, self._heirs)
            basis = msgspec.structs.replace(own, partitions=count, first={})
            if partition in first:
                tp = TopicPartition(self._settings.topics.rerouted, partition)
                generation = own.generations.get(origin_key(tp), 0)
                basis.first[origin_of(tp, generation)] = first[partition]
            self._bases[partition] = basis
            by_partition[partition] = [Outgoing(BASIS_KEY, encode_basis(basis))]
        await self._write(self._changelog, by_partition)

    async def _write(self, topic: str, by_partition: Mapping[int, Iterable[Outgoing]]) -> None:
        """Write to partitions of a topic, some of which may have been made just now."""
        await self._writer.know(topic, by_partition.keys())
        await self._writer.write_all(
            {TopicPartition(topic, number): rows for number, rows in by_partition.items()}
        )
