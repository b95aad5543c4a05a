"""The documented ACLs, a Kafka that asks them, and what its users run and publish."""

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.admin import CreateAclsRequest

from streams.kafka.clients import started
from streams.kafka.partitions import home_partition
from streams.settings import Settings, Topics
from streams.topics import plan
from tests.servers.kafka import KafkaCluster

from .commands import CLV, ROOT, environment

PARTITIONS = 2
SOON = 180.0
"""Seconds; a command's imports alone take some on a busy machine."""

OPERATIONS = {
    "Read": 3, "Write": 4, "Create": 5, "Alter": 7, "Describe": 8, "DescribeConfigs": 10,
}  # fmt: skip
RESOURCES = {"topic": 2, "group": 3}
LITERAL, PREFIXED = 3, 4
ANY_HOST, ALLOW = "*", 3

MAKER = "worker that makes the topics"
USERS = {
    "storefront": ["storefront"],
    "helpdesk": ["help desk"],
    "marketing": ["marketing"],
    "privacy": ["privacy desk"],
    "worker": ["worker"],
    "operator": ["operator"],
    "grower": ["grower"],
    "recorder": ["recorder"],
    "replayer": ["replayer"],
    "subscriber": ["subscriber"],
    "api": ["API"],
    "retrier": ["API", "API that retries"],
    "fitter": ["fitter"],
}
"""Roles of the users of the service `clv`."""

OTHER_USERS = ("maker", "careless", "groupless")
"""Workers of another service, whose names begin with `first`."""


class Rule(NamedTuple):
    """A line of the documentation, for one resource; kind: topic or group."""

    role: str
    kind: str
    name: str
    pattern: int
    operations: tuple[str, ...]


def documented() -> list[Rule]:
    """What docs/security.md tells operators to give each role."""
    text = (ROOT / "docs/security.md").read_text()
    section = text.partition("\n### ACLs\n")[2].partition("\n## ")[0]
    rules = []
    for line in section.splitlines():
        if not line.startswith("|"):
            continue
        role, resource, operations = (cell.strip() for cell in line.strip("|").split("|"))
        if role == "role" or not role.strip("-"):
            continue
        [kind] = re.findall(r"^(topic|group)", resource)
        pattern = PREFIXED if ", prefix" in resource else LITERAL
        names = re.findall(r"`([^`]+)`", resource)
        assert names, line
        allowed = tuple(operations.split(", "))
        rules += [Rule(role, kind, name, pattern, allowed) for name in names]
    return rules


def of_first(name: str) -> str:
    """The name that a topic or group of the service `clv` has in the service `first`."""
    return f"first{name[3:]}" if re.match("clv(-|$)", name) else f"first.{name}"


def settings_of_first() -> Settings:
    names = {role: of_first(name) for role, name in Topics().model_dump().items()}
    return Settings(app_id="first", topics=Topics(**names), partitions=PARTITIONS)


def password(user: str) -> str:
    return f"{user}-Pa55"


class Server:
    """A broker that asks ACLs, a Redis, and the users."""

    def __init__(self, kafka: KafkaCluster, redis: str) -> None:
        self.kafka = kafka
        self.redis = redis

    def client(self, user: str) -> dict[str, str]:
        return {
            "bootstrap_servers": self.kafka.address,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": user,
            "sasl_plain_password": password(user),
        }

    def variables(self, user: str, settings: Settings | None = None) -> dict[str, str]:
        settings = settings or Settings()
        topics = settings.topics.model_dump()
        return {
            "CLV_BROKER": self.kafka.address,
            "CLV_ERASURE_KEY": Settings().erasure_secret.decode(),
            "CLV_REDIS": self.redis,
            "CLV_KAFKA_SECURITY__PROTOCOL": "SASL_PLAINTEXT",
            "CLV_KAFKA_SECURITY__MECHANISM": "PLAIN",
            "CLV_KAFKA_SECURITY__USERNAME": user,
            "CLV_KAFKA_SECURITY__PASSWORD": password(user),
            "CLV_PARTITIONS": str(PARTITIONS),
            "CLV_APP_ID": settings.app_id,
            "CLV_REDIS_PREFIX": settings.app_id,
            "CLV_COMMIT_INTERVAL": "0.2",
            **{f"CLV_TOPICS__{role.upper()}": name for role, name in topics.items()},
        }

    async def allow(self, user: str, rules: list[Rule]) -> None:
        async with started(AIOKafkaAdminClient(**self.client("admin"))) as admin:
            for rule in rules:
                for operation in rule.operations:
                    answer = await admin._send_request(
                        CreateAclsRequest(
                            RESOURCES[rule.kind], rule.name, rule.pattern, f"User:{user}",
                            ANY_HOST, OPERATIONS[operation], ALLOW,
                        )
                    )  # fmt: skip
                    assert [code for code, _ in answer.creation_responses] == [0], rule

    async def make_topics(self) -> None:
        """As an administrator does it, by what `clv topics show --planned` lists."""
        async with started(AIOKafkaAdminClient(**self.client("admin"))) as admin:
            made = await admin.create_topics(
                [
                    NewTopic(topic.name, topic.partitions, 1, topic_configs=dict(topic.config))
                    for topic in plan(Settings(partitions=PARTITIONS))
                ]
            )
            assert {error[1] for error in made.topic_errors} == {0}

    async def topics(self) -> set[str]:
        async with started(AIOKafkaAdminClient(**self.client("admin"))) as admin:
            return set(await admin.list_topics())

    async def publish(self, user: str, *records: tuple[str, str, bytes]) -> None:
        """Topic, key and value of each record."""
        async with started(AIOKafkaProducer(**self.client(user), acks="all")) as producer:
            for topic, key, value in records:
                await producer.send_and_wait(topic, value, key=key.encode())

    async def read(self, user, topic, *, group=None, done=bool) -> list:
        """The records of a topic from its beginning, once `done` says so of them."""
        found: list = []
        client = AIOKafkaConsumer(
            topic, **self.client(user), group_id=group, auto_offset_reset="earliest"
        )
        async with started(client) as consumer, asyncio.timeout(SOON):
            while not done(found):
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += records
        return found


class Worker:
    """`clv worker` as a process."""

    def __init__(self, variables: dict[str, str], log: Path) -> None:
        self.log = log
        self._variables = variables
        self.process = self.begin()

    def begin(self) -> subprocess.Popen[bytes]:
        """Start it, once more too: the log is that of the last time."""
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [*CLV, "worker"], env=environment(**self._variables), stdout=file,
                stderr=file,
            )  # fmt: skip
        return self.process

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + SOON
        while text not in self.said():
            assert self.process.poll() is None, self.said()[-3_000:]
            assert time.monotonic() < until, self.said()[-3_000:]
            time.sleep(0.05)

    def ended(self) -> int:
        try:
            return self.process.wait(SOON)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.ended()


@contextlib.contextmanager
def working(variables, log):
    worker = Worker(variables, log)
    try:
        yield worker
    finally:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


def event(kind: str, **data: object) -> bytes:
    at = "2026-01-03T10:00:00Z"
    identity = "-".join(map(str, (kind, *data.values())))
    document = {"specversion": "1.0", "id": identity, "source": "/shop", "type": kind, "time": at}
    return json.dumps({**document, "data": data}).encode()


def order(customer: str, number: str, total: str = "40.00") -> bytes:
    return event(
        "order.placed", order_id=number, customer_id=customer, placed_at="2026-01-03T10:00:00Z",
        currency="USD", total=total,
    )  # fmt: skip


def elsewhere(customer: str) -> str:
    """A customer, or key, of another partition."""
    home = home_partition(customer.encode(), PARTITIONS)
    names = (f"other-{number}" for number in range(100))
    return next(n for n in names if home_partition(n.encode(), PARTITIONS) != home)
