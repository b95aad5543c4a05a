"""The service without its servers: a workload that the engine folds into logs in memory."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from faust.types import TP

from models.context import Context
from models.economics import Economics
from models.engine import exchange, process
from models.routing import route_header, without_route
from streams.cache import CachedScore, ScoreCache, connect
from streams.cache.score import Removal
from streams.embedded import embedded_servers
from streams.kafka.partitions import home_partition
from streams.outgoing import letter_record
from streams.transport.batches import RecordBatch
from tests.faults.observer import RedisState, read_redis
from tests.faults.reckoner import Terms
from tests.faults.workload import Workload
from tests.servers.scores import put, remove

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TERMS = Terms()
ECONOMICS = Economics(currency=TERMS.currency, exchange_rates=dict(TERMS.rates))
CONTEXT = Context(ECONOMICS)
PARTITIONS = 4
IDENTITY = "identity"
REROUTED = "rerouted"


def workload(seed: int = 1, **more) -> Workload:
    more = {"customers": 60, "events": 2_000, "run_id": "run1", "now": NOW} | more
    return Workload(seed, **more)


class Logged(NamedTuple):
    """A record in a log."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


@dataclass
class Logs:
    """What a service would leave behind."""

    changelog: list[Logged] = field(default_factory=list)
    updates: list[Logged] = field(default_factory=list)
    segment_changes: list[Logged] = field(default_factory=list)
    dead_letters: list[Logged] = field(default_factory=list)
    scores: list[CachedScore | Removal] = field(default_factory=list)
    """And the removals of customers who are gone."""

    def add(self, name: str, partition: int, key, value, headers=()) -> None:
        log = getattr(self, name)
        log.append(Logged(partition, len(log), key, value, tuple(headers)))

    def take(self, outputs, topic: str, partition: int) -> None:
        for key, data in outputs.records.items():
            self.add("changelog", partition, key, data)
        for update in outputs.updates:
            self.add("updates", partition, update.key, update.document)
            customer, at, clv = update.customer_id, self.updates[-1].offset, update.clv
            score = CachedScore(customer, at, clv, update.segments, update.document)
            self.scores.append(score)
        for gone in outputs.removed:
            self.add("updates", partition, gone.key, None)
            self.scores.append(Removal(gone.customer_id, self.updates[-1].offset))
        for key, document in outputs.segment_changes:
            self.add("segment_changes", partition, key, document)
        for letter in (*outputs.dead_letters, *outputs.notices):
            batch = RecordBatch(TP(topic, partition), [letter.record])
            self.add("dead_letters", partition, *letter_record(batch, letter))


def run(items, batch: int = 50, at_once: int = 200) -> Logs:
    """The engine with logs in place of a broker; one partition list per topic.

    at_once: so many items are published before all of them are worked on, so that topics keep pace.
    """
    service = _Service(batch)
    for start in range(0, len(items), at_once):
        for made, partition in items[start : start + at_once]:
            home = home_partition(made.key or b"", PARTITIONS) if partition is None else partition
            service.publish(made.topic, home, made.key, made.value, made.headers)
        service.work()
    return service.logs


class _Service:
    """The topics, and the states of each partition's customers."""

    def __init__(self, batch: int) -> None:
        self.batch = batch
        self.logs = Logs()
        self.states = defaultdict(dict)
        self.waiting = defaultdict(list)
        self.offsets = Counter()
        self.now = round(NOW.timestamp() * 1000)

    def publish(self, topic, partition, key, value, headers) -> None:
        offset = self.offsets[topic, partition]
        self.offsets[topic, partition] += 1
        record = Logged(partition, offset, key, value, tuple(headers), self.now)
        self.waiting[topic, partition].append(record)

    def work(self) -> None:
        """Go on until nothing waits."""
        while any(self.waiting.values()):
            for (topic, number), records in list(self.waiting.items()):
                part, self.waiting[topic, number] = records[: self.batch], records[self.batch :]
                while part:
                    part = part[self._work_on(topic, number, part) :]

    def _work_on(self, topic: str, number: int, part: list[Logged]) -> int:
        """Returns how many of the records were worked on."""
        origin, states = f"{topic}/{number}", self.states[number]
        if topic == IDENTITY:
            outputs = exchange(states, origin, part, CONTEXT)
        else:
            outputs = process(
                states, origin, part, CONTEXT, now=self.now, role=topic,
                at_home=lambda key: home_partition(key, PARTITIONS) == number,
            )  # fmt: skip
        for key, record, route in outputs.rerouted:
            headers = [*without_route(record.headers), route_header(route)]
            home = home_partition(key, PARTITIONS)
            self.publish(REROUTED, home, key, record.value, headers)
        for key, message in (*outputs.messages, *outputs.handovers):
            self.publish(IDENTITY, home_partition(key, PARTITIONS), key, message, ())
        self.logs.take(outputs, topic, number)
        for key, data in outputs.records.items():
            if data is None:
                states.pop(key, None)
            else:
                states[key] = data
        return outputs.taken


async def cache(scores) -> RedisState:
    """What a real Redis holds after these scores."""
    async with embedded_servers(broker=False) as servers:
        redis = connect(servers.redis.url)
        try:
            written = ScoreCache(redis)
            for score in scores:
                if isinstance(score, Removal):
                    await remove(written, [score])
                else:
                    await put(written, [score])
        finally:
            await redis.aclose()
        return await read_redis(servers.redis.url)
