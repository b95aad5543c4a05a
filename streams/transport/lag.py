"""The lag of a worker's partitions, as its consumer knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiokafka

from streams.kafka.partitions import TopicPartition


@dataclass(frozen=True, slots=True)
class Partitions:
    """The input partitions of a worker.

    lags: the readable end less the next offset to process, None before the first fetch.
    fetched: when the last fetch was answered, wall clock in ms; None before the first.
    """

    lags: Mapping[TopicPartition, int | None] = field(default_factory=dict)
    fetched: int | None = None


def partitions_of(app: Any) -> Partitions:
    """Return the partitions of an app, none before its consumer has joined the group.

    The next offset to process is the first in work, or else the consumer's position, which skips
    the markers of transactions.
    """
    # The property App.consumer would create one.
    consumer = app._consumer  # noqa: SLF001
    client = None if consumer is None else consumer._thread._consumer  # noqa: SLF001
    subscription = None if client is None else client._subscription.subscription  # noqa: SLF001
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return Partitions()
    # Neither changelogs nor Faust's leader topic.
    ours = {agent.channel.get_topic_name() for agent in app.agents.values()}
    lags: dict[TopicPartition, int | None] = {}
    fetched = []
    for topic, partition in sorted(assignment.tps):
        tp = TopicPartition(topic, partition)
        if topic not in ours:
            continue
        state = assignment.state_value(aiokafka.TopicPartition(topic, partition))
        lags[tp] = _lag(consumer, tp, state)
        if state.timestamp is not None:
            fetched.append(state.timestamp)
    return Partitions(lags, max(fetched, default=None))


def _lag(consumer: Any, tp: TopicPartition, state: Any) -> int | None:
    end = _readable_end(state)
    if end is None:
        return None
    # get: indexing the defaultdict would add a queue for a partition that may be leaving.
    queue = consumer._in_work.get(tp)  # noqa: SLF001
    unfinished = next((message for message in queue or () if not message.acked), None)
    if unfinished is not None:
        first: int = unfinished.value.records[0].offset
        return max(0, end - first)
    delivered: int | None = consumer._expected.get(tp)  # noqa: SLF001
    position = state.position if state.has_valid_position else delivered
    if position is None:
        return None
    return max(0, end - max(position, delivered or 0))


def _readable_end(state: Any) -> int | None:
    """Return the start of the first open transaction, or else the high watermark.

    Records after it cannot be read before the transaction ends, and a restart would not help.
    """
    if state.lso is not None and state.lso >= 0:
        return int(state.lso)
    return None if state.highwater is None else int(state.highwater)
