"""Ids and partition counts of topics: a Metadata request of version 10, which aiokafka lacks.

A topic that is deleted and made anew has another id. Brokers before Kafka 2.8 tell none.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    NoError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

_METADATA = 3
_ID_BYTES = 16
_NO_ID = bytes(_ID_BYTES)


class Described(NamedTuple):
    """A topic: how many partitions it has, and its id; "" where the broker tells none."""

    partitions: int
    id: str


class _Uuid(AbstractType[bytes]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_ID_BYTES)


class _MetadataResponse(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString()),
                ("port", Int32),
                ("rack", CompactString()),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString()),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString()),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = _METADATA
    API_VERSION = 10
    RESPONSE_TYPE = _MetadataResponse
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(("topic_id", _Uuid), ("name", CompactString()), ("tags", TaggedFields)),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topics: Collection[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        named: list[tuple[bytes, str, dict[int, bytes]]] = [
            (_NO_ID, topic, {}) for topic in self._topics
        ]
        return request_struct_class(named, False, False, False, {})


async def describe(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, Described]:
    """Partition counts and ids of those of the topics that exist; creates none.

    Errors: KafkaError, also for a topic that this user may not describe.
    """
    if not topics:
        return {}
    try:
        answer: Any = await admin._send_request(_MetadataRequest(topics))  # noqa: SLF001
    except (IncompatibleBrokerVersion, NotImplementedError):
        return await _without_ids(admin, topics)
    found = {}
    for code, name, topic_id, _internal, partitions, *_ in answer.topics:
        if _exists(code, name):
            told = "" if topic_id == _NO_ID else str(uuid.UUID(bytes=topic_id))
            found[name] = Described(len(partitions), told)
    return found


async def _without_ids(admin: AIOKafkaAdminClient, topics: Collection[str]) -> dict[str, Described]:
    listed = set(await admin.list_topics())
    wanted = [topic for topic in topics if topic in listed]
    described = await admin.describe_topics(wanted) if wanted else []
    return {
        topic["topic"]: Described(len(topic["partitions"]), "")
        for topic in described
        if _exists(topic["error_code"], topic["topic"])
    }


def _exists(code: int, name: str) -> bool:
    error = for_code(code)
    if error is NoError:
        return True
    if error is UnknownTopicOrPartitionError:
        return False
    raise error(name)
