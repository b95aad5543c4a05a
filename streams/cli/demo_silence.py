"""What the service would publish of the customer who bought last, if they fell silent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from models.aggregate.record import CustomerRecord, customers
from models.calendar import MILLISECONDS_A_DAY
from models.context import Context
from models.engine import advance
from streams.pipeline import Pipeline

YEARS: Final = 3


def silence(pipeline: Pipeline, partitions: int) -> list[dict[str, Any]]:
    """Return the segment changes of three years of silence, in order; none if nobody has bought.

    It is what the worker's sweeps come to, in one: each change has the midnight at which it is due.
    """
    latest: tuple[tuple[int, int, str], int] | None = None
    for partition in range(partitions):
        for key, record in customers(pipeline.table.partition(partition)):
            mine = (*_last_order(record), key.decode()), partition
            if record.aggregate.orders and (latest is None or mine > latest):
                latest = mine
    if latest is None:
        return []
    (_, _, customer), partition = latest
    return _changes(
        pipeline.table.partition(partition), customer.encode(), pipeline.context(partition)
    )


def _last_order(record: CustomerRecord) -> tuple[int, int]:
    """When the last order was placed, and how many there are."""
    orders = record.aggregate.orders.values()
    return max((order.time for order in orders), default=0), len(orders)


def _changes(states: Mapping[bytes, bytes], key: bytes, context: Context) -> list[dict[str, Any]]:
    (record,) = (each for name, each in customers({key: states[key]}) if name == key)
    until = record.as_of + YEARS * 365 * MILLISECONDS_A_DAY
    outputs = advance({key: states[key]}, [key], "silence", 0, context, as_of=until, due_only=True)
    return [msgspec.json.decode(document)["data"] for _, document in outputs.segment_changes]
