"""A Faust app as its manual teaches: one event at a time, a table, a topic, Redis per event."""

import json

import faust
import redis.asyncio

from benchmarks.customer import fold, order_of, update
from benchmarks.settings import Settings

settings = Settings.from_environ()

app = faust.App(
    settings.app_id,
    broker=f"kafka://{settings.broker}",
    store="memory://",
    topic_partitions=settings.partitions,
    broker_session_timeout=settings.broker_session_timeout,
    broker_heartbeat_interval=settings.broker_heartbeat_interval,
    broker_commit_interval=settings.commit_interval,
)
orders = app.topic(settings.topics_orders, key_type=bytes, value_type=bytes, value_serializer="raw")
updates = app.topic(settings.topics_updates, key_type=str, value_serializer="json")
customers = app.Table("customers", default=dict, key_type=str)
cache = redis.asyncio.from_url(settings.redis)


@app.agent(orders)
async def score(stream: faust.Stream) -> None:
    async for event in stream.events():
        order = order_of(event.key, event.value, list(event.headers.items()))
        key = order.data.customer_id
        customers[key] = fold(customers[key], order)
        value = update(key, customers[key])
        await updates.send(key=key, value=value)
        await cache.set(f"customer:{key}", json.dumps(value))


if __name__ == "__main__":
    app.main()
