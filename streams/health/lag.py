"""What waits in the partitions of a worker, as its consumer knows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from faust.types import TP


@dataclass(frozen=True, slots=True)
class Partitions:
    """The input partitions of a worker.

    lags: the end of what can be read less the next offset to process, None before the first fetch.
    fetched: when the last fetch was answered, by the wall clock in ms; None before the first.
    """

    lags: Mapping[TP, int | None] = field(default_factory=dict)
    fetched: int | None = None


def partitions_of(app: Any) -> Partitions:
    """The partitions of an app, none before its consumer has joined the group.

    The next offset to process is the first in work. Where nothing is in work it is where the
    consumer stands, which is beyond markers of transactions that never become a batch.
    """
    # App.consumer makes one where there is none.
    consumer = app._consumer  # noqa: SLF001
    client = None if consumer is None else consumer._thread._consumer  # noqa: SLF001
    subscription = None if client is None else client._subscription.subscription  # noqa: SLF001
    assignment = None if subscription is None else subscription.assignment
    if assignment is None:
        return Partitions()
    # Neither changelogs nor the topic by which the group's leader is found.
    ours = {agent.channel.get_topic_name() for agent in app.agents.values()}
    lags: dict[TP, int | None] = {}
    fetched = []
    for topic, partition in sorted(assignment.tps):
        tp = TP(topic, partition)
        if topic not in ours:
            continue
        state = assignment.state_value(TopicPartition(topic, partition))
        lags[tp] = _lag(consumer, tp, state)
        if state.timestamp is not None:
            fetched.append(state.timestamp)
    return Partitions(lags, max(fetched, default=None))


def _lag(consumer: Any, tp: TP, state: Any) -> int | None:
    end = _readable_end(state)
    if end is None:
        return None
    # get: asking a defaultdict would make a queue for a partition that may be going away.
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
    """Where a transaction that is open begins, else the high watermark.

    What follows cannot be read before the transaction ends, and no restart would help.
    """
    if state.lso is not None and state.lso >= 0:
        return int(state.lso)
    return None if state.highwater is None else int(state.highwater)
