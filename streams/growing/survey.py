"""Looking at everything before anything is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.aggregate.record import BASIS_KEY, ERASURE_KEY, is_customer
from streams.basis.judge import origin_key
from streams.basis.record import Basis, decode_basis
from streams.growing.moving import forgotten, outbox
from streams.growing.newest import newest_by_key
from streams.growing.stage import GrowthRefused, Stage, Standing, standing
from streams.kafka.clients import Admin, admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import committed_offsets, member_clients, once_there
from streams.kafka.partitions import Bounds, TopicPartition, home_partition, partitions_of
from streams.kafka.reading import log_client
from streams.kafka.topics import ask_whether
from streams.settings import Settings
from streams.topics import changelog_topic, co_partitioned
from streams.transport.batches import origin_parts


@dataclass(slots=True)
class Stored:
    """What the changelog holds, by partition.

    customers: how many. leaving: how many of them are at home elsewhere when it has grown.
    forgotten: what is remembered of erased customers. erasure: by which secret. waiting: keys of
    which something in the outbox may not have been delivered.
    """

    customers: Counter[int] = field(default_factory=Counter)
    leaving: Counter[int] = field(default_factory=Counter)
    forgotten: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    bases: dict[int, Basis] = field(default_factory=dict)
    erasure: dict[int, bytes] = field(default_factory=dict)
    waiting: dict[int, set[bytes]] = field(default_factory=dict)

    def take(
        self,
        partition: int,
        held: Mapping[bytes, bytes],
        wanted: int,
        committed: Mapping[TopicPartition, int],
    ) -> None:
        """Note what one partition holds."""
        keys = [key for key in held if is_customer(key)]
        self.customers[partition] = len(keys)
        self.leaving[partition] = sum(home_partition(key, wanted) != partition for key in keys)
        self.forgotten[partition] = forgotten(held)
        if BASIS_KEY in held:
            self.bases[partition] = decode_basis(held[BASIS_KEY], partition)
        if ERASURE_KEY in held:
            self.erasure[partition] = held[ERASURE_KEY]
        basis = self.bases.get(partition)
        waiting = {
            key
            for key, origin, offset in outbox(held)
            if not _is_told(origin, offset, committed, basis)
        }
        if waiting:
            self.waiting[partition] = waiting

    @property
    def stateful(self) -> set[int]:
        """Partitions that hold customers, or remember some."""
        return {n for n, count in self.customers.items() if count} | {
            n for n, those in self.forgotten.items() if those
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is, and what is to be done. smaller: topics that have to grow."""

    standing: Standing
    stored: Stored
    smaller: list[str]
    workers: int

    @property
    def moving(self) -> int:
        """Customers that are still to be moved."""
        return sum(self.stored.leaving.values())


def _is_told(
    origin: str, offset: int, committed: Mapping[TopicPartition, int], basis: Basis | None
) -> bool:
    """Whether the outputs of a record are delivered, that is, whether its offset was committed.

    For a log that was replaced since, the basis may say up to where; else all of it counts.
    """
    tp, generation = origin_parts(origin)
    if basis is not None and generation != basis.generations.get(origin_key(tp), 0):
        return offset < basis.committed.get(origin, offset + 1)
    return offset < committed.get(TopicPartition(*tp), 0)


async def look(settings: Settings, broker: Broker, wanted: int) -> Findings:
    """What there is, and what a growth would do; nothing is changed.

    Errors: GrowthRefused, NotEnlarged if the partitions cannot grow; KafkaError.
    """
    async with admin_client(broker) as admin:
        counts = await _counts(admin, settings)
        partitions = partitions_of({topic: counts[topic] for topic in settings.topics.sources})
        committed = await once_there(lambda: committed_offsets(admin, settings.app_id, partitions))
        workers = len(await member_clients(admin, settings.app_id))
        changelog = changelog_topic(settings)
        stored = Stored()
        async for number, newest in newest_by_key(broker, changelog, counts[changelog]):
            held = {key: record.value for key, record in newest.items() if record.value is not None}
            stored.take(number, held, wanted, committed)
        found = standing(wanted, counts, stored.bases, stored.stateful)
        smaller = [topic for topic, count in counts.items() if count < found.growth.new]
        if found.stage is not Stage.MOVED:
            _refuse_unclean(stored)
            clock = [tp for tp in partitions if tp.topic == settings.topics.clock]
            async with log_client(broker) as client:
                _refuse_ticks(settings, await client.listed(clock), committed)
            await ask_whether(admin, smaller, found.growth.new)
    return Findings(found, stored, smaller, workers)


async def _counts(admin: Admin, settings: Settings) -> dict[str, int]:
    names = co_partitioned(settings)
    there = set(await admin.list_topics())
    if missing := [name for name in names if name not in there]:
        raise GrowthRefused(
            f"there is no topic {', '.join(missing)}, or none that this user may see: start the "
            "workers of this version once, which make them, stop them with SIGTERM, and run this "
            "again. If they have other names, set CLV_APP_ID and CLV_TOPICS__…"
        )
    return {t["topic"]: len(t["partitions"]) for t in await admin.describe_topics(names)}


def _refuse_unclean(stored: Stored) -> None:
    if stored.waiting:
        customers = sum(map(len, stored.waiting.values()))
        partitions = ", ".join(map(str, sorted(stored.waiting)))
        raise GrowthRefused(
            f"the last worker did not stop cleanly: segment changes of {customers} customers in "
            f"partitions {partitions} may not have been delivered. Start a worker, let it catch "
            "up, stop it with SIGTERM, and run this again"
        )
    if len(set(stored.erasure.values())) > 1:
        raise GrowthRefused(
            "the partitions remember their erased customers under different secrets: give all "
            "workers one CLV_ERASURE_KEY; late events would bring erased customers back"
        )


def _refuse_ticks(
    settings: Settings,
    bounds: Mapping[TopicPartition, Bounds],
    committed: Mapping[TopicPartition, int],
) -> None:
    ahead = {tp: at.end - max(at.begin, committed.get(tp, 0)) for tp, at in bounds.items()}
    left = {tp: number for tp, number in ahead.items() if number > 0}
    if left:
        where = ", ".join(str(tp) for tp in sorted(left))
        raise GrowthRefused(
            f"{sum(left.values())} ticks are not done yet, in {where}; they would miss the "
            "customers that move. Start a worker, let it catch up, stop it with SIGTERM, and run "
            f"this again (group {settings.app_id})"
        )
