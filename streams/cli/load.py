"""`clv load`: publish a file or a data set to the topics."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from models.contracts.clock import Tick
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import print_json, progress_bars, say, warn
from streams.cli.options import (
    AsJson,
    Columns,
    CurrencyName,
    KeepGoing,
    OrderSource,
    Seed,
    Simulated,
    SourceName,
    Timezone,
)
from streams.cli.progress import caught_up
from streams.cli.running import run
from streams.cli.sources import SIMULATED_NOTE, Source, open_source, parse_moment
from streams.connection import Broker
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 30.0
"""For workers that make no progress: longer than a rebalance takes."""


def load(
    source: SourceName,
    *,
    columns: Columns = None,
    currency: CurrencyName = None,
    timezone: Timezone = None,
    order_source: OrderSource = None,
    keep_going: KeepGoing = False,
    simulated: Simulated = False,
    seed: Seed = 1,
    tick: Annotated[
        bool, typer.Option("--tick/--no-tick", help="Then have all customers valued.")
    ] = True,
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="As of which time. Default: a data set's own, or now."),
    ] = None,
    as_json: AsJson = False,
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
        keep_going=keep_going,
        simulated=simulated,
        seed=seed,
    )
    given = parse_moment(as_of, opened.economics, "--as-of") if as_of else opened.as_of
    moment = (given or datetime.now(UTC)) if tick else None
    number = run(_load(settings, opened, moment))
    if opened.simulated:
        say(SIMULATED_NOTE)
    if as_json:
        print_json(
            {
                "events": number,
                "source": opened.name,
                "simulated": opened.simulated,
                "as_of": None if moment is None else moment.isoformat(),
            },
            compact=True,
        )
    else:
        say(f"{number} events of {opened.name} published to {Broker.of(settings)}")


async def _load(settings: Settings, source: Source, as_of: datetime | None) -> int:
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    async with Publisher(broker, settings.topics, partitions) as publisher:
        with progress_bars() as bars:
            task = bars.add_task(f"Publishing {source.name}", total=source.expected, note="events")
            number = await publisher.publish(source.events(), lambda more: bars.advance(task, more))
            bars.update(task, total=number, completed=number)
            if as_of is None:
                return number
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
        else:
            warn(
                f"no worker has gone on for {PATIENCE_SECONDS:g} s; the events are published, and "
                f"when one has worked them off, run `clv tick --as-of {as_of.isoformat()}`"
            )
    return number
