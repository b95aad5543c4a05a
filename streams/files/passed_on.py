"""Lines that are CloudEvents already, and rows that are nothing, are passed on as they are."""

from datetime import datetime

from models.contracts import EVENT_TYPES, TOPIC_OF_TYPE
from models.documents import CONTENT_TYPE
from streams.files.cells import Dialect, Problem, ahead
from streams.files.outgoing import OutgoingEvent
from streams.files.rows import Row
from streams.files.values import parse_time


def passed_on(
    row: Row, raw: bytes, problems: list[Problem], dialect: Dialect, latest: datetime
) -> OutgoingEvent:
    """Return the row as it is, with the topic of its type and its customer as key.

    The time is that in the data (`placed_at` and so on), as for the service, not the envelope's.
    latest: the time of an event that says none. A reason why it cannot be accepted is added to
    `problems`, if there is none yet.
    """
    data = row.values.get("data")
    if not isinstance(data, dict):
        data = {}
    event_type = str(row.values.get("type"))
    topic = TOPIC_OF_TYPE.get(event_type)
    customer_id = data.get("customer_id") or row.values.get("partitionkey")
    at = None
    if topic is None:
        allowed = ", ".join(TOPIC_OF_TYPE)
        found = Problem(row.line, "type", f"type is {event_type!r}; allowed: {allowed}")
    elif not isinstance(customer_id, str):
        found = Problem(
            row.line,
            "customer_id",
            "the event names no customer: add data.customer_id or, where the type has none, the "
            "attribute partitionkey",
        )
    else:
        found = None
        name = EVENT_TYPES[event_type].time_field
        try:
            at = parse_time(data.get(name), dialect.zone)
            wrong = ahead(at, dialect.now)
        except ValueError as error:
            wrong = str(error)
        if wrong:
            at, found = None, Problem(row.line, name, f"data.{name} is {data.get(name)!r}: {wrong}")
    if found is not None and not problems:
        problems.append(found)
    key = customer_id.encode() if isinstance(customer_id, str) else None
    return OutgoingEvent(topic or "orders", key, raw, [CONTENT_TYPE], at or latest, row.line)
