"""What the commands read of the running service: its rules, parameters and states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from models.aggregate.record import CustomerRecord, customers
from models.calendar import milliseconds
from models.context import Context
from models.contracts.parameters import Parameters
from models.segments import DEFAULT_RULES, Rules
from streams.cli.configuration import need_broker
from streams.cli.console import progress_bar
from streams.cli.models import registry_topics
from streams.kafka.connection import Broker
from streams.outcome.states import read_states
from streams.registry.reading import read_registry
from streams.registry.registry import Registry
from streams.settings import Settings
from streams.topics import changelog_topic


@dataclass(frozen=True)
class Service:
    """A service as its topics have it. states: stored records by key."""

    settings: Settings
    broker: Broker
    partitions: int
    registry: Registry
    states: dict[bytes, bytes]

    def customers(self) -> Iterator[tuple[bytes, CustomerRecord]]:
        """Yield the customers with their records, without merged ones."""
        return customers(self.states)

    def rules_at(self, moment: datetime) -> Rules:
        """Return the rules in force at a time."""
        return self.registry.rules.at(milliseconds(moment)) or DEFAULT_RULES

    def context(self, rules: Rules | None = None, parameters: Parameters | None = None) -> Context:
        """Return what customers are scored with; with these rules or parameters at any time."""
        return Context(
            self.settings.economics,
            self.registry.timeline if parameters is None else parameters.held_always(),
            self.registry.rules if rules is None else rules.model_copy(update={"holds_from": None}),
        )


async def open_registry(settings: Settings) -> tuple[Broker, int, Registry]:
    """Return broker, partition count and registry. Errors: CommandError, KafkaError."""
    broker = need_broker(settings)
    partitions = await registry_topics(settings, broker)
    topic, currency = settings.topics.models, settings.economics.currency
    return broker, partitions, await read_registry(broker, topic, currency)


async def open_service(settings: Settings) -> Service:
    """Read a service with the states of all customers. Errors: CommandError, KafkaError."""
    broker, partitions, registry = await open_registry(settings)
    changelog = changelog_topic(settings)
    with progress_bar(f"Reading {changelog}", "records") as progress:
        states = await read_states(broker, changelog, partitions, progress)
    return Service(settings, broker, partitions, registry, states)
