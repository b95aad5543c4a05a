"""Refuse ids that are none: words that programs write where an id is missing.

Ids are taken literally, so all events with one of these would be of one customer or one order.
"""

from __future__ import annotations

from collections.abc import Set

from models.contracts import Envelope, Reason, Refused
from models.economics import NO_CUSTOMERS, PLACEHOLDERS
from models.events.kinds import EVENTS


def check_ids(event: Envelope, customer: str, allowed: Set[str]) -> None:
    """Refuse an event whose customer, or another id of it, is a placeholder.

    An erasure may name any customer, so that earlier events under a placeholder can be erased.

    customer: of the event, by its data or its record's key. allowed: placeholders that are ids.

    Raises
    ------
    Refused
        if an id is a placeholder that is not allowed.
    """
    kind = event.type
    if kind == "customer.erased":
        return
    data = event.data
    if (word := customer.lower()) in NO_CUSTOMERS and word not in allowed:
        raise _refused("key" if data.customer_id is None else "data.customer_id", customer)
    for name in EVENTS[kind].ids:
        value = getattr(data, name)
        if value is not None and (word := value.lower()) in PLACEHOLDERS and word not in allowed:
            raise _refused(f"data.{name}", value, name.removesuffix("_id"))
    if kind == "customer.merged":
        former = data.merged_from
        if (word := former.lower()) in NO_CUSTOMERS and word not in allowed:
            raise _refused("data.merged_from", former)


def _refused(field: str, value: str, thing: str = "customer") -> Refused:
    return Refused(
        Reason.PLACEHOLDER_ID,
        field,
        f"{field} is {value!r}, a placeholder and no id: everything sent with it would count as "
        f"one {thing}; send the id, and leave the event out if there is none. If it is an id after "
        "all, have it added to CLV_ECONOMICS__PLACEHOLDER_IDS, and retry",
    )
