"""Refuse ids that are none: words that programs write where an id is missing.

Ids are taken literally, so all events with one of these would be of one customer or one order.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from models.contracts import Envelope, Reason, Refused
from models.economics import NO_CUSTOMERS, PLACEHOLDERS
from models.events.kinds import EVENTS

_LONGEST: Final = max(map(len, NO_CUSTOMERS))


def check_ids(event: Envelope, customer: str, allowed: Set[str]) -> None:
    """Refuse an event whose customer, or another id of it, is a placeholder.

    An erasure may name any customer, so that earlier events under a placeholder can be erased.

    customer: of the event, by its data or its record's key. allowed: placeholders that are ids.

    Raises
    ------
    Refused
        if an id is a placeholder that is not allowed.
    """
    if event.type == "customer.erased":
        return
    data = event.data
    _check("key" if data.customer_id is None else "data.customer_id", customer, "customer", allowed)
    if event.type == "customer.merged":
        _check("data.merged_from", data.merged_from, "customer", allowed)
    for name in EVENTS[event.type].ids:
        value = getattr(data, name)
        if value is not None:
            _check(f"data.{name}", value, name.removesuffix("_id"), allowed)


def _check(field: str, value: str, thing: str, allowed: Set[str]) -> None:
    if len(value) > _LONGEST:
        return
    word = value.lower()
    if word in allowed or word not in (NO_CUSTOMERS if thing == "customer" else PLACEHOLDERS):
        return
    raise Refused(
        Reason.PLACEHOLDER_ID,
        field,
        f"{field} is {value!r}, a placeholder and no id: everything sent with it would count as "
        f"one {thing}; send the id, and leave the event out if there is none. If it is an id after "
        "all, have it added to CLV_ECONOMICS__PLACEHOLDER_IDS, and retry",
    )
