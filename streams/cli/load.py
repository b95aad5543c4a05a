"""`clv load`: publish a file or a data set to the topics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from models.contracts.clock import Tick
from streams.cli import options
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import print_json, progress_bars, say, warn
from streams.cli.loading import Loading
from streams.cli.progress import caught_up
from streams.cli.running import run
from streams.cli.sources import SIMULATED_NOTE, open_source, parse_moment
from streams.kafka.connection import Broker
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 30.0
"""For workers that make no progress: longer than a rebalance takes."""


def load(
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
    simulated: options.Simulated = False,
    seed: options.Seed = 1,
    tick: Annotated[
        bool, typer.Option("--tick/--no-tick", help="Then have all customers valued.")
    ] = True,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As of which time. Default: a data set's own, or now."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Publish the events of a file or a data set to the broker.

    Loading the same file again changes nothing: each row makes the same event, which counts once.
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
        simulated=simulated,
        seed=seed,
    )
    given = parse_moment(as_of, opened.economics, "--as-of") if as_of else opened.as_of
    moment = (given or datetime.now(UTC)) if tick else None
    loading = Loading(settings, need_broker(settings), opened)
    run(_load(settings, loading, moment))
    if opened.simulated:
        say(SIMULATED_NOTE)
    loading.tell()
    if as_json:
        print_json(
            {
                "events": loading.published,
                "source": opened.name,
                "simulated": opened.simulated,
                "as_of": None if moment is None else moment.isoformat(),
                **loading.document(),
            },
            compact=True,
        )
    else:
        say(f"{loading.published} events of {opened.name} published to {Broker.of(settings)}")


async def _load(settings: Settings, loading: Loading, as_of: datetime | None) -> None:
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    await loading.begin()
    source = loading.source
    async with Publisher(broker, settings.topics, partitions) as publisher:
        with progress_bars() as bars, loading.goes_on():
            task = bars.add_task(f"Publishing {source.name}", total=source.expected, note="events")

            def acknowledged(more: int) -> None:
                loading.add(more)
                bars.advance(task, more)

            number = await publisher.publish(loading.events(), acknowledged)
            bars.update(task, total=number, completed=number)
            if as_of is None:
                return
            # Topics have no order among themselves: a tick must not overtake the events.
            task = bars.add_task("Waiting for the workers", note="records")
            done = await caught_up(
                settings,
                settings.topics.inputs,
                partitions,
                patience=PATIENCE_SECONDS,
                report=lambda done, total: bars.update(task, completed=done, total=total),
            )
        if done:
            await publisher.tick(Tick(as_of=as_of))
            await loading.count_refused()
        else:
            warn(
                f"no worker has gone on for {PATIENCE_SECONDS:g} s; the events are published, and "
                f"when one has worked them off, run `clv tick --as-of {as_of.isoformat()}`"
            )
