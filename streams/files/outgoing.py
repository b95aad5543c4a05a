"""Events on their way to Kafka, before real topic names are known."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from models.documents import CONTENT_TYPE

encode_json = msgspec.json.Encoder().encode


class OutgoingEvent(NamedTuple):
    """One Kafka record to publish.

    `topic` is a role, the name of a field of `Topics`. `key` is the customer id in
    UTF-8, None when the event does not say whose it is. `value` is a CloudEvent, structured mode.
    `line`: of the file that it was read from, None elsewhere. `arrived`: when the broker had it, if
    it was published already, in milliseconds since 1970.
    """

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    time: datetime
    line: int | None = None
    arrived: int | None = None


def cloud_event(
    topic: str,
    event_type: str,
    *,
    source: str,
    event_id: str,
    time: datetime,
    data: Mapping[str, object],
    customer_id: str | None,
    line: int | None = None,
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
    return OutgoingEvent(topic, key, encode_json(envelope), [CONTENT_TYPE], time, line)
