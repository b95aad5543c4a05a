"""The broker that a test runs on: the embedded one, or Apache Kafka, shared by the whole test run.

With CLV_BROKER set when the tests start, "kafka" is what runs there. Its topics are shared too, so
that every test uses names of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from streams.embedded import EmbeddedBroker

from .allowed import require_kafka_allowed
from .kafka import KafkaCluster, kafka_missing_reason

Kind = Literal["embedded", "kafka"]

BOTH = pytest.mark.parametrize("broker", ["embedded", "kafka"])
"""Runs a test, which passes `broker` on, on either; that on Kafka is marked so (conftest.py)."""

NODES = 3
PATIENT = {"broker.session.timeout.ms": "18000", "replica.lag.time.max.ms": "20000"}
"""Nobody kills these nodes: one that is slow is only slow."""

EXISTING = os.environ.get("CLV_BROKER")
EXISTING_REPLICATION = int(os.environ.get("CLV_REPLICATION", "1"))

_shared: list[KafkaCluster] = []


@dataclass(frozen=True)
class TestBroker:
    """Bootstrap servers, and the replication to create topics with."""

    __test__ = False

    kind: Kind
    address: str
    replication: int


@asynccontextmanager
async def running_broker(kind: Kind) -> AsyncIterator[TestBroker]:
    """The broker of a test; the test is skipped, with the reason, where Kafka cannot run."""
    if kind == "embedded":
        async with EmbeddedBroker() as server:
            yield TestBroker(kind, server.address, 1)
    elif EXISTING:
        yield TestBroker(kind, EXISTING, EXISTING_REPLICATION)
    else:
        if reason := kafka_missing_reason():
            pytest.skip(reason)
        cluster = await shared_kafka()
        yield TestBroker(kind, cluster.address, NODES)


async def shared_kafka() -> KafkaCluster:
    """Three nodes that live until the test run ends; no test may harm them."""
    require_kafka_allowed()
    if not _shared:
        directory = Path(tempfile.mkdtemp(prefix="clv-kafka-"))
        # Run in reverse order: the nodes, which register themselves later, end first.
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        cluster = KafkaCluster(NODES, directory, properties=PATIENT)
        await cluster.start()
        _shared.append(cluster)
    return _shared[0]
