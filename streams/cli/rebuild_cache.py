"""`clv rebuild-cache`: fill Redis from the published updates."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from streams.cache import (
    KafkaUpdates,
    Rebuilt,
    Replaced,
    ScoreCache,
    UpdatesUnavailable,
    check_server,
    rebuild,
)
from streams.cli.configuration import load_settings, need_broker, need_erasure_key, need_redis
from streams.cli.console import CommandError, print_json, progress_bars, say
from streams.cli.options import AsJson
from streams.cli.running import command
from streams.cli.show import reading
from streams.topics import prepare_topics


@command
async def rebuild_cache(
    clear: Annotated[
        bool,
        typer.Option(
            "--clear", help="Empty the cache first; workers that run fill it again as well."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make the cache in Redis what is published; safe while workers run, and to repeat.

    Who is no longer published is removed; ranking, segments and totals are counted anew.
    """
    settings = load_settings()
    need_erasure_key(settings)
    broker = need_broker(settings)
    partitions = await prepare_topics(settings, broker)
    updates = KafkaUpdates(broker, settings.topics.updates, partitions=partitions)
    began = time.monotonic()
    async with reading(settings) as cache:
        await check_server(cache, need_redis(settings))
        if clear:
            await cache.clear()
        done = await _filled(cache, updates, partitions)
        customers = await cache.size()
    seconds = round(time.monotonic() - began, 1)
    if as_json:
        print_json(
            {
                "cleared": clear,
                "partitions": partitions,
                **asdict(done),
                "customers": customers,
                "seconds": seconds,
            }
        )
    else:
        say(
            f"{done.records} updates read in {seconds} s: {done.written} written, "
            f"{done.removed} removed, {done.deleted} that were no scores deleted; the cache "
            f"holds {customers} customers"
        )


async def _filled(cache: ScoreCache, updates: KafkaUpdates, partitions: int) -> Rebuilt:
    ends: dict[int, int] = {}
    positions: dict[int, int] = {}
    with progress_bars() as progress:
        task = progress.add_task("updates", total=None, note=f"of {partitions} partitions")

        def report(partition: int, position: int, end: int) -> None:
            positions[partition], ends[partition] = position, end
            progress.update(
                task,
                completed=sum(positions.values()),
                total=sum(ends.values()),
                note=f"{len(ends)} of {partitions} partitions",
            )

        try:
            return await rebuild(cache, updates, range(partitions), report)
        except UpdatesUnavailable as error:
            raise CommandError(
                f"the updates cannot be read: {error}; run the command again, it may be repeated"
            ) from error
        except Replaced as error:
            raise CommandError(f"{error}; run the command again, it may be repeated") from error
