"""The loop of the contenders that use confluent-kafka directly: consume, produce, commit."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, Message, Producer

from benchmarks.contenders.settings import Settings

AT_ONCE = 1_000
POLL_SECONDS = 0.05


def consume(
    settings: Settings,
    process: Callable[[Message], bytes | None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Give each record to `process` and publish what it returns under the record's key.

    Offsets are committed once the broker has acknowledged what was published before.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": settings.broker,
            "group.id": settings.app_id,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": int(settings.broker_session_timeout * 1000),
            "heartbeat.interval.ms": int(settings.broker_heartbeat_interval * 1000),
        }
    )
    producer = Producer({"bootstrap.servers": settings.broker, "linger.ms": 10})
    consumer.subscribe([settings.topics_orders, settings.topics_support])
    uncommitted, due = False, time.monotonic() + settings.commit_interval
    while not is_stopped():
        for message in consumer.consume(AT_ONCE, timeout=POLL_SECONDS):
            output = process(message)
            if output is not None:
                producer.produce(settings.topics_updates, output, message.key())
                producer.poll(0)
            uncommitted = True
        if uncommitted and time.monotonic() >= due:
            producer.flush()
            consumer.commit(asynchronous=False)
            uncommitted, due = False, time.monotonic() + settings.commit_interval
    consumer.close()
