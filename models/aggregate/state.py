"""The state of one customer: registers, and the sums of those that were compacted."""

from __future__ import annotations

import msgspec

from models.aggregate.compacted import Compacted
from models.events.acquisitions import Acquisition
from models.events.orders import Order
from models.events.refunds import Refund
from models.events.surveys import Survey
from models.events.tickets import Ticket


class Aggregate(msgspec.Struct, array_like=True):
    """One customer's rolling aggregate: a join-semilattice of registers, plus compacted sums.

    Keys are 63-bit fingerprints of (source, id). The dictionaries are kept in order of
    (time, fingerprint), so that equal states are equal bytes.

    cancelled: when each order was last cancelled. superseded: earlier versions of revised orders
    that an erasure would bring back, see `models.aggregate.versions`.
    """

    orders: dict[int, Order] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    refunds: dict[int, Refund] = msgspec.field(default_factory=dict)
    tickets: dict[int, Ticket] = msgspec.field(default_factory=dict)
    surveys: dict[str, Survey] = msgspec.field(default_factory=dict)
    acquisitions: dict[int, Acquisition] = msgspec.field(default_factory=dict)
    compacted: Compacted | None = None
    superseded: dict[int, tuple[Order, ...]] = msgspec.field(default_factory=dict)
