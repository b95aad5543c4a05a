"""A Faust app as its manual teaches: one event at a time, a table, a topic, Redis per event."""

import json

import faust
import redis.asyncio

from benchmarks.contenders.customer import event_of, fold, update
from benchmarks.contenders.settings import Settings

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
events = app.topic(
    settings.topics_orders,
    settings.topics_support,
    key_type=bytes,
    value_type=bytes,
    value_serializer="raw",
)
updates = app.topic(settings.topics_updates, key_type=str, value_serializer="json")
customers = app.Table("customers", default=dict, key_type=str)
cache = redis.asyncio.from_url(settings.redis)


@app.agent(events)
async def score(stream: faust.Stream) -> None:
    async for record in stream.events():
        event = event_of(record.key, record.value, list(record.headers.items()))
        key = event.data.customer_id
        customers[key] = fold(customers[key], event)
        value = update(key, customers[key])
        await updates.send(key=key, value=value)
        await cache.set(f"customer:{key}", json.dumps(value))


if __name__ == "__main__":
    app.main()
