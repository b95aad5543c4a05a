"""The servers of a benchmark: a broker of either kind, and a Redis."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders.settings import BrokerKind
from streams.embedded import embedded_servers
from tests.servers.kafka import KafkaCluster

JVM = ("-Xms512m", "-Xmx1g", "-XX:TieredStopAtLevel=4")
"""Over what tests start it with: they want it small and soon there."""


@dataclass(frozen=True)
class Servers:
    """Addresses."""

    kind: BrokerKind
    broker: str
    redis: str


@asynccontextmanager
async def running_servers(kind: BrokerKind) -> AsyncIterator[Servers]:
    """Run them in the context; KafkaMissing if Apache Kafka cannot run here."""
    async with embedded_servers(broker=kind == "embedded") as servers:
        if kind == "embedded":
            yield Servers(kind, servers.broker.address, servers.redis.url)
            return
        with tempfile.TemporaryDirectory(prefix="clv-bench-kafka-") as directory:
            cluster = KafkaCluster(1, Path(directory))
            [node] = cluster.nodes
            await node.format(cluster.cluster_id)
            try:
                node.launch(*JVM)
                await node.ready()
                yield Servers(kind, cluster.address, servers.redis.url)
            finally:
                cluster.kill()
