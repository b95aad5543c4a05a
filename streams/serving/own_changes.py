"""The segment changes of one customer, from the topic."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import log_client, next_record
from streams.serving.places import Place
from streams.serving.recent_changes import ChangeData, change_of

_KEPT: Final = 256
"""Customers, asked for last, whose changes are kept: each one read costs some 7 ms."""

_Found = dict[Place, ChangeData | None]
"""By where they are; None: deleted from the topic, or of somebody else."""


class OwnChanges:
    """Reads the changes of a customer, each once as long as the customer is asked for."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._kept: OrderedDict[str, _Found] = OrderedDict()

    def forget(self, customer_id: str) -> None:
        """Keep nothing of a customer who was removed."""
        self._kept.pop(customer_id, None)

    async def at(self, customer_id: str, places: Sequence[Place]) -> list[ChangeData]:
        """Return a customer's changes at these places, as far as the topic has them.

        Errors: KafkaError, OSError.
        """
        known = self._kept.get(customer_id, {})
        missing = [place for place in places if place not in known]
        known = known | await self._read(customer_id, missing)
        self._kept[customer_id] = {place: known[place] for place in places}
        self._kept.move_to_end(customer_id)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return [change for place in places if (change := known[place]) is not None]

    async def _read(self, customer_id: str, places: Iterable[Place]) -> _Found:
        offsets: dict[int, list[int]] = {}
        for place in places:
            offsets.setdefault(place.partition, []).append(place.offset)
        found: _Found = {}
        for partition, wanted in offsets.items():
            log = TopicPartition(self._topic, partition)
            async with log_client(self._broker) as client:
                for offset in wanted:
                    client.seek({log: offset})
                    record = await next_record(client, log)
                    there = record is not None and record.offset == offset
                    change = change_of(record.value) if record and there else None
                    mine = change is not None and change.customer_id == customer_id
                    found[Place(partition, offset)] = change if mine else None
        return found
