"""`clv backfill`: load years of history into a live system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from models.contracts.clock import Tick
from models.events.kinds import BACKFILL, IDENTITIES
from streams.cli import options
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, progress_bars, say
from streams.cli.loading import Loading
from streams.cli.progress import caught_up
from streams.cli.running import run
from streams.cli.sources import open_source
from streams.files.outgoing import OutgoingEvent
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 60.0
"""For workers that make no progress: longer than a rebalance takes."""


def backfill(
    source: options.SourceName,
    *,
    columns: options.Columns = None,
    currency: options.CurrencyName = None,
    timezone: options.Timezone = None,
    order_source: options.OrderSource = None,
    line_items: options.LineItems = False,
    shop: options.ShopName = None,
    status: options.Statuses = None,
    ignore_status: options.IgnoreStatus = False,
    decimal: options.DecimalSign = "point",
    keep_going: options.KeepGoing = False,
    ahead: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="RECORDS",
            help="How many records the workers may be behind: new events wait for no more.",
        ),
    ] = 20_000,
    as_json: options.AsJson = False,
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
        line_items=line_items,
        shop=shop,
        statuses=status,
        ignore_status=ignore_status,
        decimal=decimal,
        keep_going=keep_going,
    )
    loading = Loading(settings, need_broker(settings), opened)
    run(_backfill(settings, loading, ahead))
    loading.tell()
    if as_json:
        document = {"events": loading.published, "source": opened.name, **loading.document()}
        print_json(document, compact=True)
    else:
        say(
            f"{loading.published} events of {opened.name} are loaded, and all customers are to be "
            "valued"
        )


async def _backfill(settings: Settings, loading: Loading, ahead: int) -> None:
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    await loading.begin()
    source = loading.source

    async def follow(within: int) -> None:
        if not await caught_up(
            settings,
            settings.topics.inputs,
            partitions,
            within=within,
            patience=PATIENCE_SECONDS,
        ):
            raise CommandError(
                f"no worker has gone on for {PATIENCE_SECONDS:g} s; see that workers run, and "
                "whether `clv doctor` finds anything"
            )

    async with Publisher(broker, settings.topics, partitions) as publisher:
        with progress_bars() as bars, loading.goes_on():
            task = bars.add_task(f"Loading {source.name}", total=source.expected, note="events")
            events = marked(loading.events())
            # Half of what they may be behind is published while they work on the other half.
            while chunk := list(islice(events, max(1, ahead // 2))):
                await publisher.publish(chunk, loading.add)
                bars.update(task, completed=loading.published)
                await follow(ahead // 2)
            # A tick must not overtake the events: topics have no order among themselves.
            await follow(0)
            await publisher.tick(Tick(as_of=datetime.now(UTC)))
            await loading.count_refused()


def marked(events: Iterable[OutgoingEvent]) -> Iterator[OutgoingEvent]:
    """The events, on the topic for history where it takes them."""
    for event in events:
        yield event if event.topic == IDENTITIES else event._replace(topic=BACKFILL)
