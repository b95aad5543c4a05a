"""The segment changes that silence brings: what a sweep of a later time would tell, and as of when.

They are computed by the sweep itself, so that they are exactly what it will tell if nothing happens
to a customer until then, and no other parameters or rules are published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Final, NamedTuple

from models.aggregate.record import CustomerRecord, encode_record, glance
from models.context import Context, Interpretation
from models.engine import advance
from models.falling_due import Due, dues

TOGETHER: Final = 1_000
"""Customers that are looked at together."""

_ORIGIN: Final = "coming"


class Coming(NamedTuple):
    """A change of segment that comes if nothing happens to the customer until then.

    at: when, in milliseconds since 1970: the beginning of a day, as a rule; before now if it is not
    told yet. current: None if the rules have the dimension no more. clv: the value then.
    """

    customer_id: str
    at: int
    dimension: str
    previous: str | None
    current: str | None
    clv: float


def coming(
    states: Mapping[bytes, bytes], keys: Iterable[bytes], context: Context, until: int
) -> Iterator[Coming]:
    """Yield the changes that come up to a time, in milliseconds since 1970; a customer's in order.

    states: stored records by key. keys: of whom; others than customers' are left out. Raises
    UnreadableRecord.
    """
    return coming_of(states, looks(states, keys, context), context, until)


def looks(states: Mapping[bytes, bytes], keys: Iterable[bytes], context: Context) -> list[Due]:
    """Return when these customers are to be looked at. Raises UnreadableRecord."""
    return dues(states, keys, context, lambda _origin, _offset: False)


def coming_of(
    states: Mapping[bytes, bytes], found: Iterable[Due], context: Context, until: int
) -> Iterator[Coming]:
    """Yield the changes of customers of whom it is known when they are to be looked at."""
    due: list[bytes] = []
    for each in found:
        if each.moment <= until:
            due.append(each.key)
            if len(due) == TOGETHER:
                yield from _coming(states, due, context, until)
                due = []
    yield from _coming(states, due, context, until)


def changes_to_come(record: CustomerRecord, by: Interpretation, until: int) -> list[Coming]:
    """Return the changes of one customer up to a time; without their id."""
    key, context = b"-", Context(by.economics, by.parameters, by.rules)
    found = coming({key: encode_record(record)}, [key], context, until)
    return [each._replace(customer_id="") for each in found]


def _coming(
    states: Mapping[bytes, bytes], due: list[bytes], context: Context, until: int
) -> Iterator[Coming]:
    # Of a long silence, a sweep tells no more at once than an outbox has room for.
    for number in count():
        if not due:
            return
        outputs = advance(states, due, _ORIGIN, number, context, as_of=until, due_only=True)
        states = {key: data for key, data in outputs.records.items() if data is not None}
        for key, data in states.items():
            customer_id = key.decode()
            for entry in glance(data, key).outbox:
                for change in entry.changes:
                    yield Coming(
                        customer_id,
                        entry.as_of,
                        change.dimension,
                        change.previous,
                        change.current,
                        entry.after or 0.0,
                    )
        due = [key for key in states if outputs.dues[key] <= until]
