"""`clv partitions grow`: more partitions, and every customer where it is at home then."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from streams.addresses import shown_url
from streams.cache import UpdatesUnavailable
from streams.cli.configuration import load_settings, need_broker, need_erasure_key, need_redis
from streams.cli.console import CommandError, out, print_json, say
from streams.cli.options import AsJson, group
from streams.cli.running import command
from streams.cli.show import reading
from streams.growing.group import group_held
from streams.growing.growth import Grown, grow
from streams.growing.stage import Stage
from streams.growing.survey import Findings, look
from streams.kafka.connection import Broker
from streams.settings import Settings

partitions = group("The partitions of the topics.")

_AGAIN = "run the same command again; it goes on where it was, and workers refuse until it is done"


@partitions.command("grow")
@command
async def grow_partitions(
    number: Annotated[int, typer.Argument(metavar="N", min=1, help="How many there are to be.")],
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Give the topics more partitions and move the customers, while no worker runs.

    Safe to be killed at any moment, and to be repeated.
    """
    settings = load_settings()
    broker = need_broker(settings)
    need_erasure_key(settings)
    await broker.check()
    if dry_run:
        found = await look(settings, broker, number)
        _say(found)
        if as_json:
            print_json(plan_document(found))
        return
    done = await _grow(settings, broker, number)
    if as_json:
        print_json(done.document())
    else:
        out().print(
            f"{done.partitions} partitions, before {done.partitions_before}: {done.customers:,} "
            f"customers and {done.updates:,} values moved, {done.cached:,} customers in Redis, in "
            f"{done.seconds} s. Start the workers"
        )


async def _grow(settings: Settings, broker: Broker, number: int) -> Grown:
    url = need_redis(settings)
    async with reading(settings) as cache:
        try:
            await cache.size()
        except RedisError as error:
            raise CommandError(
                f"Redis at {shown_url(url)} cannot be used: {error}. Nothing was done: the cache "
                "has to be made anew before workers go on; start it, and run this again"
            ) from error
        async with group_held(settings, broker) as held:
            found = await look(settings, broker, number)
            _say(found)
            try:
                return await grow(settings, broker, found, cache=cache, held=held, step=say)
            except UpdatesUnavailable as error:
                raise CommandError(f"the updates cannot be read: {error}; {_AGAIN}") from error
            except RedisError as error:
                raise CommandError(f"Redis cannot be used: {error}; {_AGAIN}") from error
            except BaseException:
                say(_AGAIN)
                raise


def plan_document(found: Findings) -> dict[str, Any]:
    """What a growth would do, for --json."""
    growth, stage = found.standing
    moved = stage is Stage.MOVED
    return {
        "partitions_before": growth.old,
        "partitions": growth.new,
        "stage": stage.value,
        "topics": [] if moved else sorted(found.smaller),
        "customers": sum(found.stored.customers.values()),
        "customers_to_move": 0 if moved else found.moving,
        "by_partition": {} if moved else dict(found.stored.leaving),
        "workers": found.workers,
    }


def _say(found: Findings) -> None:
    growth, stage = found.standing
    if stage is Stage.MOVED:
        say(f"all customers have moved; what is left is to say so in {growth.new} partitions")
        return
    if stage is Stage.UNFINISHED:
        say(f"a growth from {growth.old} to {growth.new} partitions was begun; this finishes it")
    if found.smaller:
        say(f"{growth.old} to {growth.new} partitions: {', '.join(sorted(found.smaller))}")
    stored = found.stored
    say(f"{found.moving:,} of {sum(stored.customers.values()):,} customers move, with their values")
    for partition, count in sorted(stored.leaving.items()):
        if count:
            say(f"  {count:,} of {stored.customers[partition]:,} leave partition {partition}")
    say("then the cache in Redis is made anew")
