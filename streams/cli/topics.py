"""`clv topics`: the topics of the service, as they are planned and as they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import out, print_json, say
from streams.cli.options import AsJson, group
from streams.cli.running import command
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.topics import counted, differences, partition_counts, topic_facts
from streams.settings import Settings
from streams.topics import co_partitioned, plan, prepare_topics

topics = group("The topics: names, partitions, replication, retention and compaction.")


@topics.command()
@command
async def create(as_json: AsJson = False) -> None:
    """Create those topics that are missing; topics that exist stay as they are."""
    settings = load_settings()
    broker = need_broker(settings)
    await broker.check()
    before = await partition_counts(broker)
    await prepare_topics(settings, broker)
    created = [topic.name for topic in plan(settings) if topic.name not in before]
    if as_json:
        print_json({"created": created})
    else:
        say(f"created {', '.join(created)}" if created else "all topics are there")


@topics.command()
@command
async def show(
    planned: Annotated[
        bool, typer.Option("--planned", help="Only the plan: do not ask the broker.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the topics are planned, and how those at the broker differ."""
    settings = load_settings()
    if settings.broker is None or planned:
        documents = _documents(settings)
    else:
        documents = await _compared(settings, need_broker(settings))
    if as_json:
        print_json(documents)
    else:
        out().print(_table(documents))


async def _compared(settings: Settings, broker: Broker) -> list[dict[str, Any]]:
    await broker.check()
    async with admin_client(broker) as admin:
        known = await counted(admin)
        counts = [known[name] for name in co_partitioned(settings) if name in known]
        settings = settings.model_copy(
            update={"partitions": max(counts, default=settings.partitions)}
        )
        names = [topic.name for topic in plan(settings) if topic.name in known]
        found = {facts.name: facts for facts in await topic_facts(admin, names)}
    return [
        document | {"differences": differences(topic, found.get(topic.name))}
        for topic, document in zip(plan(settings), _documents(settings), strict=True)
    ]


def _documents(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "name": topic.name,
            "partitions": topic.partitions,
            "replication": settings.replication,
            "config": dict(topic.config),
        }
        for topic in plan(settings)
    ]


def _table(documents: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    compared = "differences" in documents[0]
    for name in ("topic", "partitions", "replication", "settings", *(["at the broker"] * compared)):
        table.add_column(name, justify="right" if name in ("partitions", "replication") else "left")
    for each in documents:
        row = [
            each["name"],
            str(each["partitions"]),
            str(each["replication"]),
            " ".join(f"{name}={value}" for name, value in each["config"].items()),
        ]
        if compared:
            row.append("; ".join(each["differences"]) or "as planned")
        table.add_row(*row)
    return table
