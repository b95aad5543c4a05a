"""Events on their way to Kafka, before real topic names are known."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from models.documents import CONTENT_TYPE

Topic = Literal["orders", "support", "customers"]

TOPIC_OF_TYPE: Mapping[str, Topic] = {
    "order": "orders",
    "ticket": "support",
    "survey": "support",
    "customer": "customers",
}
"""The topic of an event type, by what stands before its dot."""

encode_json = msgspec.json.Encoder().encode


class OutgoingEvent(NamedTuple):
    """One Kafka record to publish.

    `topic` is logical: the caller maps it to the configured name. `key` is the customer id in
    UTF-8, None when the event does not say whose it is. `value` is a CloudEvent, structured mode.
    """

    topic: Topic
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    time: datetime


def cloud_event(
    topic: Topic,
    event_type: str,
    *,
    source: str,
    event_id: str,
    time: datetime,
    data: Mapping[str, object],
    customer_id: str | None,
) -> OutgoingEvent:
    """Return a CloudEvent 1.0 in structured mode.

    `time` and the times in `data` must have an offset. `customer_id` becomes the key; whether
    `data` says it too is the caller's choice.
    """
    envelope = {
        "specversion": "1.0",
        "id": event_id,
        "source": source,
        "type": event_type,
        "time": time,
        "datacontenttype": "application/json",
        "data": data,
    }
    key = None if customer_id is None else customer_id.encode()
    return OutgoingEvent(topic, key, encode_json(envelope), [CONTENT_TYPE], time)
