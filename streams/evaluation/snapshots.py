"""What is known of all customers at a cut, while their states are being folded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.record import decode_record, is_customer
from models.choosing import Choice, choose
from models.economics import Economics
from models.fitting import DEFAULT_MODEL
from models.population import Halves, Past, Population
from models.value import Row

Floats = NDArray[np.float64]


class Snapshot(NamedTuple):
    """Customers with an order: their keys, and the columns of their values as of a day."""

    keys: list[bytes]
    of: Row[Floats]


class Snapshots:
    """Reads snapshots from states that go on being folded; reads again only what has changed."""

    def __init__(self, economics: Economics) -> None:
        self._population = Population(economics)
        self._read: dict[bytes, bytes] = {}

    def take(self, states: Mapping[bytes, bytes], today: int) -> Snapshot:
        """Return the customers with an order as of a day's ordinal; merged ones are left out.

        The states hold nothing that is later.
        """
        for key in self._read.keys() - states.keys():
            del self._read[key]
            self._population.remove(key)
        for key, data in states.items():
            if not is_customer(key) or self._read.get(key) is data:
                continue
            self._read[key] = data
            record = decode_record(data, key)
            if record.into:
                self._population.remove(key)
            else:
                self._population.put(key, record.aggregate)
        of = self._population.columns(today)
        bought = of.purchase_days > 0
        keys = [key for key, has in zip(self._population.keys(), bought, strict=True) if has]
        return Snapshot(keys, Row(*(column[bought] for column in of)))

    def past(self, today: int) -> Past | None:
        """Return the past of the snapshot that was taken last, on this day."""
        return self._population.past(today)

    def halves(self, today: int) -> Halves:
        """Return the halves of what was paid until this day, that of the snapshot."""
        return self._population.halves(today)

    def choose(self, today: int) -> Choice:
        """Return which model of purchases predicted best until this day, that of the snapshot."""
        return choose(self._population, today, DEFAULT_MODEL)
