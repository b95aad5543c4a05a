"""A Quix Streams app: state per key in RocksDB with its changelog, an output topic, no Redis."""

from typing import Any

from quixstreams import Application, State

from benchmarks.contenders.customer import Headers, event_of, fold, update
from benchmarks.contenders.settings import Settings


def score(value: bytes, key: bytes, _timestamp: int, headers: Headers, state: State) -> Any:
    event = event_of(key, value, headers)
    customer = fold(state.get("customer", {}), event)
    state.set("customer", customer)
    return update(event.data.customer_id, customer)


def main() -> None:
    settings = Settings.from_environ()
    app = Application(
        broker_address=settings.broker,
        consumer_group=settings.app_id,
        auto_offset_reset="earliest",
        commit_interval=settings.commit_interval,
        consumer_extra_config={
            "session.timeout.ms": int(settings.broker_session_timeout * 1000),
            "heartbeat.interval.ms": int(settings.broker_heartbeat_interval * 1000),
        },
        loglevel="WARNING",
    )
    orders, support = (
        app.dataframe(app.topic(name, key_deserializer="bytes", value_deserializer="bytes"))
        for name in (settings.topics_orders, settings.topics_support)
    )
    updates = app.topic(settings.topics_updates, value_serializer="json")
    stream = orders.concat(support) if settings.has_support else orders
    stream = stream.apply(score, stateful=True, metadata=True)
    stream.to_topic(updates)
    app.run()


if __name__ == "__main__":
    main()
