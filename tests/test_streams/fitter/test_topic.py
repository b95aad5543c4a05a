"""The registry's topic at a broker: immutable parameters, and what feeds and recorders ignore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from models.segments import DEFAULT_RULES
from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed, ParametersPublished, publish_parameters
from streams.recording import RecordedTopic
from streams.recording.format import Place
from streams.recording.live import live_slice
from streams.registry.reading import read_registry, write_document
from streams.registry.records import (
    REQUEST,
    STATE,
    Candidate,
    Request,
    State,
    candidate_key,
    rules_key,
)
from streams.settings import Settings
from streams.topics import prepare_topics
from tests.test_models.parameters import PARAMETERS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODELS = Settings().topics.models
EARLIER = PARAMETERS.model_copy(update={"holds_from": NOW})


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with EmbeddedBroker() as server:
        connection = Broker(server.address)
        await prepare_topics(Settings(broker=server.address, partitions=1), connection)
        yield connection


async def test_parameters_are_immutable(broker: Broker) -> None:
    await publish_parameters(broker, MODELS, EARLIER)
    await publish_parameters(broker, MODELS, EARLIER)
    for changed in (
        EARLIER.model_copy(update={"refund_rate": 0.06}),
        EARLIER.model_copy(update={"holds_from": None}),
    ):
        with pytest.raises(ParametersPublished, match="clv models rollback cdnow-published"):
            await publish_parameters(broker, MODELS, changed)
    with pytest.raises(ValueError, match="has a slash"):
        await publish_parameters(broker, MODELS, EARLIER.model_copy(update={"version": "a/b"}))
    held = await read_registry(broker, MODELS, "USD")
    assert held.published == {EARLIER.version: EARLIER}
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        assert feed.timeline.published == (EARLIER,)


async def test_feeds_and_recorders_see_parameters_and_rules_only(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = PARAMETERS.model_copy(update={"version": "bad"})
    refused = Candidate(parameters=bad, reasons=("worse",), judged_at=NOW)
    state = State(at=NOW, outcome="refused", version="bad")
    await write_document(broker, MODELS, candidate_key("bad"), refused)
    await write_document(broker, MODELS, REQUEST, Request(id="x", asked_at=NOW))
    await write_document(broker, MODELS, STATE, state)
    await publish_parameters(broker, MODELS, EARLIER)
    later = DEFAULT_RULES.model_copy(update={"version": "later", "holds_from": NOW})
    for rules in (DEFAULT_RULES, later):
        await write_document(broker, MODELS, rules_key(rules.version), rules)
    async with ParameterFeed(broker, MODELS, "USD") as feed:
        assert feed.timeline.published == (EARLIER,)
        assert feed.rules.published == (DEFAULT_RULES, later)
    assert "refused" not in "".join(capsys.readouterr())
    async with live_slice(broker, [RecordedTopic("models", MODELS, 1)]) as shown:
        seen = [record.key async for record in _records(shown)]
    # The rules with which a service began are those of its configuration.
    assert seen == [EARLIER.version.encode(), rules_key("later")]


async def _records(shown):
    while (record := await shown.next(Place(0, 0))) is not None:
        yield record
