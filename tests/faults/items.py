"""What is published: an event, its partition, and its place among the others."""

from __future__ import annotations

from typing import NamedTuple

from streams.files.outgoing import OutgoingEvent


class Item(NamedTuple):
    """An event to publish; partition: None for the one where Kafka's default would put it."""

    event: OutgoingEvent
    partition: int | None


class Placed(NamedTuple):
    """An item at a place in the order of publishing: 0 is the beginning of the run, 1 its end."""

    share: float
    item: Item
