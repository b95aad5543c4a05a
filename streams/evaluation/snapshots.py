"""What is known of all customers at a cut, while their states are being folded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.record import decode_record, is_customer
from models.aggregate.summary import Summary
from models.economics import Economics
from models.value import Row, columns, value_row

Floats = NDArray[np.float64]


class Snapshot(NamedTuple):
    """Customers with an order: their keys, and the columns of their values as of a day."""

    keys: list[bytes]
    of: Row[Floats]


class Snapshots:
    """Reads snapshots from states that go on being folded; reads again only what has changed."""

    def __init__(self, economics: Economics) -> None:
        self._economics = economics
        self._read: dict[bytes, tuple[bytes, Summary | None]] = {}

    def take(self, states: Mapping[bytes, bytes], today: int) -> Snapshot:
        """Return the customers with an order as of a day's ordinal; merged ones are left out."""
        keys: list[bytes] = []
        rows: list[Row[int]] = []
        for key, data in states.items():
            if not is_customer(key):
                continue
            before = self._read.get(key)
            if before is None or before[0] is not data:
                before = self._read[key] = (data, self._summary(key, data))
            summary = before[1]
            if summary is not None and summary.orders:
                keys.append(key)
                rows.append(value_row(summary, today, self._economics))
        return Snapshot(keys, columns(rows))

    def _summary(self, key: bytes, data: bytes) -> Summary | None:
        record = decode_record(data, key)
        return None if record.into else Summary(record.aggregate, self._economics)
