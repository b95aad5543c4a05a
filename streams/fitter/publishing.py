"""Putting parameters in force: publish them, and have all customers scored with them."""

from __future__ import annotations

from datetime import UTC, datetime

from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.publisher import Publisher
from streams.settings import Settings


async def put_in_force(
    settings: Settings, broker: Broker, partitions: int, parameters: Parameters
) -> None:
    """Publish parameters that say from when they hold, and tick as of then; once more is the same.

    Errors: KafkaError, ParametersPublished.
    """
    await publish_parameters(broker, settings.topics.models, parameters)
    await score_everybody(settings, broker, partitions, parameters)


async def score_everybody(
    settings: Settings, broker: Broker, partitions: int, parameters: Parameters
) -> None:
    """Have all customers scored with parameters, as of when these began to hold. KafkaError."""
    moment = parameters.holds_from or datetime.now(UTC)
    async with Publisher(broker, settings.topics, partitions) as publisher:
        await publisher.tick(Tick(as_of=moment, parameters=parameters.version))
