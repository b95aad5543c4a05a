"""Which events each topic takes, so that an ACL on a topic says who may publish which events."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from models.contracts.decode import Reason, Refused
from models.contracts.envelope import Envelope

BACKFILL: Final = "backfill"
"""The topic for history; its changes of segment are not announced one by one.

A customer's changes are told together, with the next event that is no history, or when time passes.
"""

IDENTITIES: Final = "identities"
"""The topic for merging and erasing customers."""

_ORDERS = ("order.placed", "order.refunded", "order.cancelled")
_SUPPORT = ("ticket.opened", "ticket.resolved", "ticket.rated", "survey.answered")
_CUSTOMERS = ("customer.acquired",)

TYPES_OF_TOPIC: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "orders": _ORDERS,
        "support": _SUPPORT,
        "customers": _CUSTOMERS,
        IDENTITIES: ("customer.merged", "customer.erased"),
        BACKFILL: (*_ORDERS, *_SUPPORT, *_CUSTOMERS),
    }
)
"""The event types that each input topic takes, by the topic's role."""

TOPIC_OF_TYPE: Mapping[str, str] = MappingProxyType(
    {kind: role for role, kinds in TYPES_OF_TOPIC.items() if role != BACKFILL for kind in kinds}
)
"""The role of the topic to which an event of a type is published."""


def check_topic(event: Envelope, role: str) -> None:
    """Refuse an event on a topic that does not take its type.

    role: of an input topic, a key of `TYPES_OF_TOPIC`.

    Raises
    ------
    Refused
        for an event of another topic.
    """
    allowed = TYPES_OF_TOPIC[role]
    if event.type not in allowed:
        raise Refused(
            Reason.WRONG_TOPIC,
            "type",
            f"type is {event.type!r}, which belongs on the topic of the {TOPIC_OF_TYPE[event.type]}"
            f"; allowed here: {', '.join(allowed)}",
        )
