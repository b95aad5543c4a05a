"""The consumer group: where it stands in the logs, and whether its state belongs to it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.cli.checks.check import Check
from streams.cli.checks.topics import TopicFacts
from streams.clients import started
from streams.connection import Broker
from streams.ends import log_ends
from streams.settings import Settings
from streams.topics import TABLE_NAME, changelog_topic

DAY = 24 * 3600

NO_OFFSET = -1


@dataclass(frozen=True, slots=True)
class Place:
    """A partition of an input: the offsets that its log has, and what the group has committed."""

    name: str
    begin: int
    end: int
    committed: int | None


async def group_checks(
    settings: Settings,
    broker: Broker,
    admin: AIOKafkaAdminClient,
    facts: Sequence[TopicFacts],
    names: Collection[str],
) -> list[Check]:
    """Ask for offsets, and judge them; raises KafkaError."""
    counts = {each.name: each.partitions for each in facts}
    topics = settings.topics
    inputs = _partitions(counts, topics.sources)
    changelog = _partitions(counts, [changelog_topic(settings)])
    letters = _partitions(counts, [topics.dead_letters])
    if not inputs:
        return []
    client = AIOKafkaConsumer(**broker.client_options(), enable_auto_commit=False)
    async with started(client) as consumer:
        every = [*inputs, *changelog, *letters]
        begins = await consumer.beginning_offsets(every)
        ends = await log_ends(consumer, every)
        since = int((time.time() - DAY) * 1000)
        recent = await consumer.offsets_for_times(dict.fromkeys(letters, since)) if letters else {}
    committed = await admin.list_consumer_group_offsets(settings.app_id, partitions=inputs)
    places = [Place(_name(tp), begins[tp], ends[tp], _offset(committed, tp)) for tp in inputs]
    stored = sum(ends[tp] - begins[tp] for tp in changelog)
    refused = sum(ends[tp] - found.offset for tp, found in recent.items() if found is not None)
    return [
        *offset_checks(settings, places, await members(admin, settings.app_id)),
        *changelog_checks(settings, places, names, stored),
        letters_check(settings, sum(ends[tp] - begins[tp] for tp in letters), refused),
    ]


def offset_checks(
    settings: Settings, places: Sequence[Place], members: int | None
) -> Iterator[Check]:
    """Judge committed offsets against the logs; members: workers in the group, None if unknown."""
    name = "offsets"
    known = [(p, p.committed) for p in places if p.committed is not None]
    lost = [f"{p.name} lost {p.begin - at:,} events" for p, at in known if at < p.begin]
    beyond = [f"{p.name} is at {at:,} of {p.end:,}" for p, at in known if at > p.end]
    if lost:
        yield Check(
            name,
            "fail",
            f"events were deleted before they were processed: {'; '.join(lost)}",
            "set retention.ms=-1 on the input topics, and publish the lost events again from the "
            "shop (events that were counted already count once)",
        )
    if beyond:
        yield Check(
            name,
            "fail",
            f"group {settings.app_id} committed offsets beyond the end of the log: "
            f"{'; '.join(beyond)}",
            "a topic was made anew or restored from an older copy, and its records would look like "
            "replays: use a new CLV_APP_ID, which computes everything from the beginning, and let "
            f"it have the outputs by `clv claims release {settings.app_id}`",
        )
    lag = sum(p.end - max(p.begin, p.committed or 0) for p in places if p.end > (p.committed or 0))
    found = f"{lag:,} records wait for group {settings.app_id}"
    if members is not None:
        found += f", which has {members} workers"
    if lag and members == 0:
        yield Check("lag", "warn", found, "start a worker: `clv worker`")
    else:
        yield Check("lag", "ok", found)


def changelog_checks(
    settings: Settings, places: Sequence[Place], names: Collection[str], stored: int
) -> Iterator[Check]:
    """Judge whether the state fits the offsets; stored: records in the changelog."""
    name, ours = "changelog", changelog_topic(settings)
    begun = [p.name for p in places if p.committed]
    if begun and not stored:
        what = "is empty" if ours in names else "is missing"
        yield Check(
            name,
            "fail",
            f"{ours} {what}, but group {settings.app_id} has processed events of "
            f"{', '.join(begun)}",
            "restore the changelog, or use a new CLV_APP_ID, which computes everything from the "
            f"beginning, and has the outputs after `clv claims release {settings.app_id}`: as it "
            "is, what was processed would be missing from every value",
        )
    elif begun:
        yield Check(name, "ok", f"{ours} holds {stored:,} records")
    else:
        others = sorted(
            each.removesuffix(f"-{TABLE_NAME}-changelog")
            for each in names
            if each.endswith(f"-{TABLE_NAME}-changelog") and each != ours
        )
        if others:
            yield Check(
                name,
                "warn",
                f"group {settings.app_id} has processed nothing yet, and there is the state of "
                f"{', '.join(others)}",
                "see whether CLV_APP_ID is the one you mean: a new one begins at the first event",
            )
        else:
            yield Check(name, "ok", f"group {settings.app_id} has processed nothing yet")


def letters_check(settings: Settings, kept: int, refused: int) -> Check:
    """Judge the dead letters: all that are kept, and those of the last day."""
    name = "dead letters"
    if refused:
        found = f"{refused:,} events were refused within a day; {kept:,} dead letters are kept"
        return Check(name, "warn", found, "see why by `clv dead-letters`")
    return Check(name, "ok", f"none within a day; {kept:,} in {settings.topics.dead_letters}")


async def members(admin: AIOKafkaAdminClient, group: str) -> int | None:
    """How many workers a group has; None where that is not told."""
    try:
        responses: list[Any] = await admin.describe_consumer_groups([group])
    except KafkaError:
        # Without the right to describe the group, its offsets may still be read.
        return None
    described = [each for response in responses for each in response.groups if not each[0]]
    return len(described[0][5]) if described else None


def _partitions(counts: Mapping[str, int], topics: Sequence[str]) -> list[TopicPartition]:
    return [TopicPartition(t, number) for t in topics if t in counts for number in range(counts[t])]


def _offset(committed: Mapping[TopicPartition, Any], tp: TopicPartition) -> int | None:
    found = committed.get(tp)
    return None if found is None or found.offset == NO_OFFSET else int(found.offset)


def _name(tp: TopicPartition) -> str:
    return f"{tp.topic}[{tp.partition}]"
