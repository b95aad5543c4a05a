"""What an adapter of a shop's export says, and the registry of all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.files.statuses import Standing


@dataclass(frozen=True)
class Shop:
    """How a shop exports its orders.

    columns: the headers of each field, best first, as `columns.plain` has them. otherwise: the
    header of a customer whose id is empty or in `nobody`. statuses: what each means, as
    `statuses.plain_status` has them. captured: the header of a column that is "false" for what was
    only reserved. utc: whether times without an offset are in UTC. line_items: whether an order has
    further rows, with its id but without amount and status.
    """

    name: str
    title: str
    columns: Mapping[str, tuple[str, ...]]
    statuses: Mapping[str, Standing]
    otherwise: tuple[str, ...]
    nobody: frozenset[str] = field(default_factory=frozenset)
    captured: str = ""
    utc: bool = False
    line_items: bool = False


SHOPS: dict[str, Shop] = {}
"""Every shop whose exports we read, by name."""


def registered(shop: Shop) -> Shop:
    """Add a shop to `SHOPS`."""
    SHOPS[shop.name] = shop
    return shop
