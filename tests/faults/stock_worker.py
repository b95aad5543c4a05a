"""The same task on stock Faust, as its manual teaches it: sums per customer, an update, Redis.

For comparison only. It knows neither duplicates nor refunds: give it plain events, so that what is
lost or counted twice is the transport's doing. It reads the environment of `clv worker`; run it as
`python -m tests.faults.stock_worker`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import faust
import redis.asyncio

from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.topics import TABLE_NAME
from streams.transport import faust_settings

settings = Settings()
UNITS = 10_000

app = faust.App(
    settings.app_id,
    **faust_settings(Broker.of(settings)),
    store="memory://",
    topic_partitions=settings.partitions,
    topic_replication_factor=settings.replication,
    broker_session_timeout=settings.session_timeout,
    broker_heartbeat_interval=settings.heartbeat_interval,
    broker_commit_interval=settings.commit_interval,
    web_enabled=False,
)


def _nothing() -> dict[str, Any]:
    return {"version": 0, "orders": 0, "units": 0, "gross": 0.0, "contacts": 0, "cost": 0.0}


def _raw(name: str) -> Any:
    return app.topic(name, key_type=bytes, value_type=bytes, value_serializer="raw")


updates = _raw(settings.topics.updates)
customers = app.Table(TABLE_NAME, default=_nothing, key_type=bytes)
cache = redis.asyncio.from_url(settings.redis)


@app.agent(_raw(settings.topics.orders))
async def orders(stream: Any) -> None:
    """Add up orders."""
    async for event in stream.events():
        data = _data(event)
        sums = _next(event.key)
        sums["orders"] += 1
        sums["units"] += _units(data["total"])
        sums["gross"] = sums["units"] / UNITS
        await _publish(event.key, sums)


@app.agent(_raw(settings.topics.support))
async def support(stream: Any) -> None:
    """Count contacts."""
    async for event in stream.events():
        sums = _next(event.key)
        sums["contacts"] += 1
        await _publish(event.key, sums)


@app.agent(_raw(settings.topics.customers))
async def acquisitions(stream: Any) -> None:
    """Keep the latest cost of acquisition."""
    async for event in stream.events():
        sums = _next(event.key)
        sums["cost"] = _units(_data(event)["cost"]) / UNITS
        await _publish(event.key, sums)


def _data(event: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(event.value)["data"]
    return data


def _next(key: bytes) -> dict[str, Any]:
    sums: dict[str, Any] = dict(customers[key])
    sums["version"] += 1
    return sums


def _units(amount: str) -> int:
    whole, _, fraction = amount.partition(".")
    return int(whole + fraction.ljust(4, "0"))


async def _publish(key: bytes, sums: dict[str, Any]) -> None:
    customers[key] = sums
    customer = key.decode()
    data = {
        "customer_id": customer,
        "version": sums["version"],
        "totals": {name: sums[name] for name in ("orders", "gross", "contacts")},
    }
    document = {
        "specversion": "1.0", "id": f"{customer}/{sums['version']}", "source": "/stock-faust",
        "type": "clv.updated", "data": data,
    }  # fmt: skip
    update = json.dumps(document).encode()
    await updates.send(key=key, value=update)
    fields = {"version": sums["version"], "update": update}
    await cache.hset(f"{settings.redis_prefix}:customer:{customer}", mapping=fields)


if __name__ == "__main__":
    sys.argv[1:] = sys.argv[1:] or ["worker", "--without-web", "--loglevel=info"]
    app.main()
