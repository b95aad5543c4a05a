"""The Apache Kafka of these tests is the one that all tests share."""

import asyncio

import pytest

from tests.servers.broker import EXISTING, EXISTING_REPLICATION, NODES, shared_kafka
from tests.servers.kafka import kafka_missing_reason


@pytest.fixture
def clv_kafka() -> tuple[str, int]:
    if EXISTING:
        return EXISTING, EXISTING_REPLICATION
    if reason := kafka_missing_reason():
        pytest.skip(reason)
    return asyncio.run(shared_kafka()).address, NODES
