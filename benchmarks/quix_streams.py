"""A Quix Streams app: state per key in RocksDB with its changelog, an output topic, no Redis."""

from typing import Any

from quixstreams import Application, State

from benchmarks.customer import Headers, fold, order_of, update
from benchmarks.settings import Settings


def score(value: bytes, key: bytes, _timestamp: int, headers: Headers, state: State) -> Any:
    order = order_of(key, value, headers)
    customer = fold(state.get("customer", {}), order)
    state.set("customer", customer)
    return update(order.data.customer_id, customer)


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
    orders = app.topic(settings.topics_orders, key_deserializer="bytes", value_deserializer="bytes")
    updates = app.topic(settings.topics_updates, value_serializer="json")
    stream = app.dataframe(orders)
    stream = stream.apply(score, stateful=True, metadata=True)
    stream.to_topic(updates)
    app.run()


if __name__ == "__main__":
    main()
