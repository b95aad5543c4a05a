"""Misrouted records: which way a record came that its first partition had to send on.

A record is rerouted when it was published under a wrong key or to a wrong partition, or when its
customer was merged into another. It then lies in a topic that only workers write, with its route in
a header. The home partition remembers, for each lane, how far its records were taken in: after a
crash a record may be rerouted again, and has another offset then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from models.contracts import Reason, Refused, key_as_customer

ROUTE: Final = "clv.route"
"""Header of a rerouted record; believed only in the topic of the rerouted."""

MOST_LANES: Final = 2_000
"""Ways by which a customer's events may come; the record remembers an offset for each."""

Headers = Sequence[tuple[str, bytes]]


class Route(msgspec.Struct, frozen=True):
    """Where a rerouted record was published, and what it passed since.

    origin, offset: "topic/partition" and the offset in it. key: the one it was published under.
    through: partitions of the topic of the rerouted that it passed before this one. via: the merged
    customers by whom it came, in their order; none where no merge is the reason. backfill: whether
    it was published as history.
    """

    origin: str
    offset: int
    key: bytes | None
    through: tuple[str, ...] = ()
    via: tuple[str, ...] | None = None
    backfill: bool = False

    @property
    def lane(self) -> str:
        """Records of one lane arrive in the order of their offsets, at first; then again.

        No lane is a topic-partition's name: that is how far the records that were published right
        there are applied, which come at another time than those sent on from there.
        """
        return ">".join((self.origin, *self.through, ""))

    @property
    def times(self) -> int:
        """How often the record was sent on."""
        return len(self.through) + 1

    def further(self, origin: str, via: tuple[str, ...] | None) -> Route:
        """The route of the record when it is sent on from where it is."""
        here = origin.rpartition("/")[2]
        return msgspec.structs.replace(self, through=(*self.through, here), via=via)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Route).decode


def route_header(route: Route) -> tuple[str, bytes]:
    """The header that says so."""
    return ROUTE, _encode(route)


def route_of(headers: Headers) -> Route:
    """The route of a record in the topic of the rerouted.

    Raises
    ------
    Refused
        when it has none that can be read, or one that names no customers: no worker has written it.
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
    """The headers as they were published."""
    return [(name, content) for name, content in headers if name != ROUTE]


def check_lane(applied: Mapping[str, int], lane: str) -> None:
    """Refuse a record of one lane more than a customer's record can remember.

    Raises
    ------
    Refused
        when as many are remembered as there can be.
    """
    if lane not in applied and len(applied) >= MOST_LANES:
        raise Refused(
            Reason.BEYOND_MEMORY,
            "key",
            f"this customer's events came by {MOST_LANES} ways, which is as many as are "
            "remembered; publish them under their customer's key, partitioned by murmur2",
        )
