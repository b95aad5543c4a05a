"""When stored customers are to be looked at, by their records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from models.aggregate.record import glance, is_customer
from models.context import Context
from models.timeline import NEVER


class Due(NamedTuple):
    """When to look at a customer, in milliseconds since 1970; or NEVER.

    pending: whether outputs are stored that may not have been delivered. backfilled: whether the
    last event is of a backfill; the tick at its end looks at them, and nothing before it.
    """

    key: bytes
    moment: int
    pending: bool
    backfilled: bool


def dues(
    states: Mapping[bytes, bytes],
    keys: Iterable[bytes],
    context: Context,
    is_pending: Callable[[str, int], bool],
) -> list[Due]:
    """Return when to look at these customers; keys that are no customer's are left out.

    is_pending: returns whether the outputs that the record at "topic/partition", offset brought may
    not have been delivered, and nothing but a sweep sends them again.
    """
    economics, last_start = context.economics, context.last_start
    found = []
    for key in keys:
        if not is_customer(key) or (data := states.get(key)) is None:
            continue
        of = glance(data, key)
        if of.into or of.backfill:
            moment = NEVER
        else:
            begins = of.base or of.as_of
            moment = of.due or economics.day_begins(economics.day(begins) + 1)
            if begins < last_start:
                moment = min(moment, max(context.next_start(begins), of.as_of))
        pending = any(is_pending(each.origin, each.offset) for each in of.outbox)
        found.append(Due(key, moment, pending, of.backfill and not of.into))
    return found
