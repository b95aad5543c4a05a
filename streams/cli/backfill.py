"""`clv backfill`: load years of history into a live system."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from models.contracts.clock import Tick
from models.contracts.intake import BACKFILL, IDENTITIES
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, progress_bars, say
from streams.cli.options import (
    AsJson,
    Columns,
    CurrencyName,
    KeepGoing,
    OrderSource,
    SourceName,
    Timezone,
)
from streams.cli.progress import caught_up
from streams.cli.running import run
from streams.cli.sources import Source, open_source
from streams.files import OutgoingEvent
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 60.0
"""For workers that make no progress: longer than a rebalance takes."""


def backfill(
    source: SourceName,
    *,
    columns: Columns = None,
    currency: CurrencyName = None,
    timezone: Timezone = None,
    order_source: OrderSource = None,
    keep_going: KeepGoing = False,
    ahead: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="RECORDS",
            help="How many records the workers may be behind: new events wait for no more.",
        ),
    ] = 20_000,
    as_json: AsJson = False,
) -> None:
    """Load history into a live system, at the pace of its workers.

    Values are published as ever, marked as backfill; changes of segment are not, until everything
    is loaded: then each customer's are told once, from what was known before to what is true now.
    Loading the same again, or what an interruption has left, changes nothing that is loaded.
    """
    settings = load_settings()
    need_broker(settings)
    opened = open_source(
        source,
        settings.economics,
        columns=columns,
        currency=currency,
        timezone=timezone,
        source=order_source,
        keep_going=keep_going,
    )
    number = run(_backfill(settings, opened, ahead))
    if as_json:
        print_json({"events": number, "source": opened.name}, compact=True)
    else:
        say(f"{number} events of {opened.name} are loaded, and all customers are to be valued")


async def _backfill(settings: Settings, source: Source, ahead: int) -> int:
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    published = 0

    async def follow(within: int) -> None:
        if not await caught_up(
            settings,
            settings.topics.inputs,
            partitions,
            within=within,
            patience=PATIENCE_SECONDS,
        ):
            raise CommandError(
                f"no worker has gone on for {PATIENCE_SECONDS:g} s; {published} events of "
                f"{source.name} are published. When workers run, give the same command again: what "
                "is loaded counts once"
            )

    async with Publisher(broker, settings.topics, partitions) as publisher:
        with progress_bars() as bars:
            task = bars.add_task(f"Loading {source.name}", total=source.expected, note="events")
            events = marked(source)
            # Half of what they may be behind is published while they work on the other half.
            while chunk := list(islice(events, max(1, ahead // 2))):
                published += await publisher.publish(chunk)
                bars.update(task, completed=published)
                await follow(ahead // 2)
            # A tick must not overtake the events: topics have no order among themselves.
            await follow(0)
            await publisher.tick(Tick(as_of=datetime.now(UTC)))
    return published


def marked(source: Source) -> Iterator[OutgoingEvent]:
    """The events of a source, on the topic for history where it takes them."""
    for event in source.events():
        yield event if event.topic == IDENTITIES else event._replace(topic=BACKFILL)
