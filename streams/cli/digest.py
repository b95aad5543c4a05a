"""`clv digest`: what the service made of its events, in a digest that can be compared."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import out, print_json, progress_bar, warn
from streams.cli.options import AsJson
from streams.cli.record_options import topics_there
from streams.cli.running import command
from streams.outcome.digest import Result
from streams.outcome.outcome import ROLES
from streams.outcome.published import read_outcome
from streams.settings import Settings
from streams.topics import changelog_topic


@command
async def digest(as_json: AsJson = False) -> None:
    """Digest all customers, their values, and their changes of segment, as they are published.

    Two services that were told the same have the same digests, whatever their partitions, workers
    and batches. Workers should have nothing left to do meanwhile.
    """
    settings = load_settings()
    result = await published_result(settings)
    if as_json:
        print_json(result.document())
    else:
        print_result(result, settings.economics.currency)
    warn_of(result)


async def published_result(settings: Settings) -> Result:
    """What the service of these settings has published; CommandError where there is no such."""
    broker = need_broker(settings)
    names = settings.topics.model_dump() | {"changelog": changelog_topic(settings)}
    topics = await topics_there(
        broker,
        {role: names[role] for role in ROLES},
        "a worker makes them when it starts. If they have other names, set CLV_APP_ID and "
        "CLV_TOPICS__…",
    )
    with progress_bar("Reading", "offsets") as moved:
        outcome = await read_outcome(broker, topics, moved)
    return outcome.result()


def print_result(result: Result, currency: str, **more: Any) -> None:
    """Print a result for people; more: lines to come before it."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in more.items():
        table.add_row(name.replace("_", " "), str(value))
    table.add_row("customers", f"{result.customers:,}")
    table.add_row("value", f"{result.value:,.2f} {currency}")
    for dimension, counts in result.segments.items():
        listed = ", ".join(f"{segment} {count:,}" for segment, count in counts.items())
        table.add_row(dimension, listed)
    table.add_row("changes", f"{result.changes:,}, {result.repeats:,} of them told again")
    letters = ", ".join(f"{reason} {count:,}" for reason, count in result.dead_letters.items())
    table.add_row("dead letters", letters or "none")
    for name, each in result.digests.items():
        table.add_row(f"digest, {name}", each)
    out().print(table)


def warn_of(result: Result) -> None:
    """Say what should not be."""
    for problem in result.disagreements:
        warn(problem)
