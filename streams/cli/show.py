"""`clv show`, `clv top`: what the cache knows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
import typer

from streams.addresses import shown_url
from streams.cache import CachedScore, ScoreCache, connect
from streams.cli.absent import refusals_of
from streams.cli.configuration import load_settings, need_redis
from streams.cli.console import CommandError, out, print_json
from streams.cli.history import show_history
from streams.cli.options import AsJson
from streams.cli.running import command
from streams.cli.tables import Totals, customer_tables, top_table
from streams.settings import Settings


@command
async def show(
    customer: Annotated[str, typer.Argument(help="Customer id.")],
    history: Annotated[
        bool, typer.Option("--history", help="What they were worth on past days.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show why a customer is worth what they are."""
    settings = load_settings()
    async with reading(settings) as cache:
        score = await cache.get(customer)
        if score is None:
            raise CommandError(
                f"customer {customer!r} is not in the cache, which holds {await cache.size()}; "
                "check the id, CLV_REDIS and CLV_REDIS_PREFIX",
                *await refusals_of(settings, customer),
            )
    if history:
        await show_history(settings, score, as_json=as_json)
        return
    data = data_of(score)
    if as_json:
        print_json(data)
        return
    for table in customer_tables(data):
        out().print(table)


@command
async def top(
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many.")] = 10,
    as_json: AsJson = False,
) -> None:
    """Show the customers of the highest value."""
    async with reading(load_settings()) as cache:
        found = await top_customers(cache, number)
    if as_json:
        print_json(found)
    else:
        out().print(top_table(found, f"Top {len(found)} customers by value"))


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[ScoreCache]:
    """The cache of the configured Redis, as the configured service's.

    Whoever writes to it calls `need_erasure_key` first.
    """
    url = need_redis(settings)
    secret = b"" if settings.erasure_key is None else settings.erasure_secret
    try:
        redis = connect(url, settings.redis_security)
    except ValueError as error:
        raise CommandError(f"CLV_REDIS is {shown_url(url)!r}: {error}") from error
    try:
        yield ScoreCache(redis, settings.redis_prefix, settings.app_id, secret)
    finally:
        await redis.aclose()


async def top_customers(cache: ScoreCache, number: int) -> list[dict[str, Any]]:
    """The customers of the highest value, with everything that was published of them."""
    found = [await cache.get(ranked.customer_id) for ranked in await cache.top(number)]
    return [data_of(score) for score in found if score is not None]


async def all_totals(cache: ScoreCache) -> Totals:
    """Totals of every dimension: those that the first customer of the ranking has."""
    first = await top_customers(cache, 1)
    return {name: await cache.totals(name) for each in first for name in each["segments"]}


def data_of(score: CachedScore) -> dict[str, Any]:
    """`data` of the published update."""
    data: dict[str, Any] = msgspec.json.decode(score.update)["data"]
    return data
