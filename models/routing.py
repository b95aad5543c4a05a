"""Misrouted records: the route of a record that its first partition sent on.

A record is rerouted if it was published under a wrong key or to a wrong partition, or if its
customer was merged into another. It is sent on to `clv.rerouted`, which only workers write, with
its route in a header. After a crash it may be rerouted again and get another offset there.
Therefore applied offsets are remembered by lane, as the offsets of first publication.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from models.contracts import Reason, Refused, key_as_customer

ROUTE: Final = "clv.route"
"""Header with the route of a rerouted record; read only in `clv.rerouted`."""

MOST_LANES: Final = 2_000
"""Lanes by which a customer's events may come; the record remembers an offset for each."""

Headers = Sequence[tuple[str, bytes]]


class Route(msgspec.Struct, frozen=True):
    """Where a rerouted record was published, and which partitions it has passed since.

    origin, offset: "topic/partition" and the offset in it. key: under which it was published.
    through: partitions of `clv.rerouted` that it passed before this one. via: the merged customers
    that it passed, in order; None if it followed no merge. backfill: whether it is history.
    """

    origin: str
    offset: int
    key: bytes | None
    through: tuple[str, ...] = ()
    via: tuple[str, ...] | None = None
    backfill: bool = False

    @property
    def lane(self) -> str:
        """The record's lane; the first deliveries of its records are in order of their offsets.

        Example: "shop.orders/3>5>". It ends with ">", so that it differs from "shop.orders/3", the
        lane of records that were published to the right partition.
        """
        return ">".join((self.origin, *self.through, ""))

    @property
    def times(self) -> int:
        """How often the record has been sent on."""
        return len(self.through) + 1

    def further(self, origin: str, via: tuple[str, ...] | None) -> Route:
        """Return the route after the record is sent on once more, from `origin`."""
        here = origin.rpartition("/")[2]
        return msgspec.structs.replace(self, through=(*self.through, here), via=via)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Route).decode


class Position(NamedTuple):
    """The position of a record: on its lane, and in the batch's partition."""

    lane: str
    offset: int
    """Offset on the lane: decides whether the record was applied already."""
    here: int
    """Offset in the batch's partition."""
    route: Route | None = None
    backfill: bool = False
    """Whether it was published as history."""


def route_header(route: Route) -> tuple[str, bytes]:
    """Return the header that holds a route."""
    return ROUTE, _encode(route)


def route_of(headers: Headers) -> Route:
    """Return the route of a record in `clv.rerouted`.

    Raises
    ------
    Refused
        if the header is missing or not a route, so that no worker can have written the record.
    """
    content = next((content for name, content in reversed(headers) if name == ROUTE), b"")
    try:
        route = _decode(content or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused(
            Reason.INVALID_FIELD,
            ROUTE,
            f"the header {ROUTE} does not say where the record was published; only workers write "
            "to this topic: publish the event to a topic of the shop",
        ) from None
    for customer in route.via or ():
        key_as_customer(customer.encode("utf-8", "surrogatepass"))
    return route


def without_route(headers: Headers) -> list[tuple[str, bytes]]:
    """Return the headers as they were published."""
    return [(name, content) for name, content in headers if name != ROUTE]


def check_lane(applied: Mapping[str, int], lane: str) -> None:
    """Raise `Refused` for a new lane if the customer's record has `MOST_LANES` already."""
    if lane not in applied and len(applied) >= MOST_LANES:
        raise Refused(
            Reason.BEYOND_MEMORY,
            "key",
            f"this customer's events came by {MOST_LANES} ways, which is as many as are "
            "remembered; publish them under their customer's key, partitioned by murmur2",
        )
