"""Partitions, their bounds, and the records in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

from aiokafka.partitioner import murmur2

from models.outputs import Record

Headers = Sequence[tuple[str, bytes | None]]


class TopicPartition(NamedTuple):
    """A partition of a topic; equal to aiokafka's and Faust's tuples of the same name."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]"


def partitions_of(counts: Mapping[str, int]) -> list[TopicPartition]:
    """All partitions of topics that have so many each."""
    return [TopicPartition(topic, n) for topic, count in counts.items() for n in range(count)]


class Bounds(NamedTuple):
    """Offsets of the first record of a log, and after the last."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        """How many offsets there are."""
        return self.end - self.begin


class LogRecord(Record, Protocol):
    """A record as it was read, and where."""

    @property
    def topic(self) -> str:
        """The topic."""

    @property
    def partition(self) -> int:
        """The partition."""

    @property
    def timestamp_type(self) -> int:
        """0: the timestamp is its publisher's; 1: it is the broker's."""


@lru_cache(maxsize=16_384)
def home_partition(key: bytes, partitions: int) -> int:
    """The partition of a key by Kafka's default partitioner.

    Cached, because a batch asks for a customer's several times, and murmur2 in Python takes 5 µs.
    """
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions
