"""`clv tick`: let time pass."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from models.contracts.clock import Tick
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import print_json, say
from streams.cli.options import AsJson
from streams.cli.running import command
from streams.cli.sources import parse_moment
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics


@command
async def tick(
    as_of: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time, or date for the end of that day. Default: now."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Have all customers valued as of a time; nobody goes back before their last event."""
    settings = load_settings()
    need_broker(settings)
    moment = parse_moment(as_of, settings.economics, "--as-of") if as_of else datetime.now(UTC)
    await send_tick(settings, Tick(as_of=moment))
    if as_json:
        print_json({"as_of": moment.isoformat()}, compact=True)
    else:
        say(f"all customers are to be valued as of {moment.isoformat()}")


async def send_tick(settings: Settings, what: Tick) -> None:
    """Send a tick to every partition."""
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    async with Publisher(broker, settings.topics, partitions) as publisher:
        await publisher.tick(what)
