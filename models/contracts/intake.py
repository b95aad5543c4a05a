"""Check event types by topic, so that an ACL on a topic restricts who publishes which events."""

from __future__ import annotations

from models.contracts.decode import Reason, Refused
from models.events.envelope import Envelope
from models.events.kinds import TOPIC_OF_TYPE, TYPES_OF_TOPIC


def check_topic(event: Envelope, role: str) -> None:
    """Refuse an event on a topic that does not take its type.

    role: the input topic's, a key of `TYPES_OF_TOPIC`.

    Raises
    ------
    Refused
        if events of this type belong to another topic.
    """
    allowed = TYPES_OF_TOPIC[role]
    if event.type not in allowed:
        raise Refused(
            Reason.WRONG_TOPIC,
            "type",
            f"type is {event.type!r}, which belongs on the topic of the {TOPIC_OF_TYPE[event.type]}"
            f"; allowed here: {', '.join(allowed)}",
        )
