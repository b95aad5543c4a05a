"""Rules on the topic of models: who begins, who follows, and what nobody can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from models.segments import DEFAULT_DIMENSIONS, DEFAULT_RULES, Rules, named_rules
from models.timeline import Timeline
from streams.cli.checks.rules import judge, rules
from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.writing import Outgoing, record_writer
from streams.parameters import ParameterFeed, RulesUnreadable
from streams.registry.reading import read_registry
from streams.registry.records import rules_key
from streams.rules import begin_rules, publish_rules, version_for
from streams.settings import Settings
from streams.topics import prepare_topics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = Settings().topics.models
OTHERS = named_rules(DEFAULT_DIMENSIONS[:1])


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with EmbeddedBroker() as server:
        connection = Broker(server.address)
        await prepare_topics(Settings(broker=server.address, partitions=1), connection)
        yield connection


async def write(broker: Broker, key: bytes, value: bytes) -> None:
    async with record_writer(broker) as writer:
        await writer.write(TopicPartition(MODELS, 0), [Outgoing(key, value)])


async def test_the_first_worker_begins_and_others_follow(broker: Broker) -> None:
    first, second = Settings(), Settings(dimensions=OTHERS.dimensions)
    assert (await begin_rules(first, broker)).latest == DEFAULT_RULES
    assert (await begin_rules(second, broker)).latest == DEFAULT_RULES
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        assert feed.rules.published == (DEFAULT_RULES,)
        held = await publish_rules(second, broker, OTHERS, NOW)
        assert (held.version, held.holds_from) == (OTHERS.version, NOW)
        await feed.caught_up()
        assert feed.rules.published == (DEFAULT_RULES, held)
        # The same rules once more, after others: under a version of their own.
        back = await publish_rules(first, broker, DEFAULT_RULES, NOW.replace(hour=13))
        again = await publish_rules(second, broker, OTHERS, NOW.replace(hour=14))
        assert back.version == f"{DEFAULT_RULES.version}-2"
        assert again.version == f"{OTHERS.version}-2"
        await feed.caught_up()
        assert [each.version for each in feed.rules.published] == [
            DEFAULT_RULES.version, OTHERS.version, back.version, again.version,
        ]  # fmt: skip
    registry = await read_registry(broker, MODELS, "USD")
    assert registry.rules.latest == again
    assert version_for(OTHERS, registry.rules) == f"{OTHERS.version}-3"


async def test_of_many_that_begin_at_once_the_first_record_decides(broker: Broker) -> None:
    configured = [
        Settings(dimensions=DEFAULT_DIMENSIONS[:number])
        for number in range(1, len(DEFAULT_DIMENSIONS))
    ]
    begun = await asyncio.gather(*(begin_rules(each, broker) for each in configured))
    assert len({each.latest.version for each in begun if each.latest is not None}) == 1


async def test_rules_that_came_too_late_to_decide_are_not_taken_for_those_put_in_force_later(
    broker: Broker,
) -> None:
    await begin_rules(Settings(), broker)
    # What another worker writes that began at the same moment.
    await write(broker, rules_key(OTHERS.version), OTHERS.model_dump_json().encode())
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        await feed.caught_up()
        assert feed.rules.published == (DEFAULT_RULES,)
        key = rules_key(OTHERS.version).decode()
        assert not await feed.wait_for(key, 0.0)
        held = await publish_rules(Settings(), broker, OTHERS, NOW)
        assert rules_key(held.version).decode() == key
        assert await feed.wait_for(key, 10.0)
        assert feed.rules.published == (DEFAULT_RULES, held)


async def test_a_worker_does_not_go_by_former_rules_when_it_cannot_read_the_new_ones(
    broker: Broker,
) -> None:
    await begin_rules(Settings(), broker)
    newer = OTHERS.model_dump_json().replace('"orders"', '"orders_of_friends"').encode()
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        await write(broker, rules_key("newer"), newer)
        async with asyncio.timeout(10):
            await feed.caught_up()
        with pytest.raises(RulesUnreadable, match="'orders_of_friends'"):
            _ = feed.rules
    with pytest.raises(RulesUnreadable, match=f"rules {OTHERS.version} were published by a newer"):
        async with ParameterFeed(broker, MODELS, "USD"):
            pass
    [check] = await rules(Settings(), broker)
    assert check.status == "fail"


async def test_what_is_no_rules_at_all_changes_nothing(broker: Broker) -> None:
    await begin_rules(Settings(), broker)
    for value in (b"no JSON", b"[]", b'{"version": "x"}'):
        await write(broker, rules_key("garbage"), value)
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        assert feed.rules.published == (DEFAULT_RULES,)
    [check] = await rules(Settings(), broker)
    assert (check.status, DEFAULT_RULES.version in check.found) == ("ok", True)


def test_the_doctor_says_that_configured_rules_are_not_in_force():

    published = Timeline((DEFAULT_RULES,))
    other = Settings(dimensions=OTHERS.dimensions)
    assert judge(other, published, NOW).status == "warn"
    assert judge(Settings(), published, NOW).status == "ok"
    older = Timeline((Rules(version="default-0", dimensions=OTHERS.dimensions),))
    assert DEFAULT_RULES.version in judge(Settings(), older, NOW).found
    assert "first worker" in judge(other, Timeline(), NOW).found
