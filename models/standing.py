"""What a customer is scored from as of a day, and as of later days if nothing happens."""

from __future__ import annotations

from typing import Final, NamedTuple

from models.contracts.parameters import Parameters
from models.segments import Rules
from models.value import Row

NO_DAY: Final = 2**31
"""The ordinal of a day that does not come."""


class Point(NamedTuple):
    """What a customer's value was computed from: their row, the ordinal of the day, parameters."""

    row: Row[int]
    day: int
    model: Parameters


class Standing(NamedTuple):
    """What a customer is scored from.

    day: the ordinal of the day. read: the features that are read from the state, in the order of
    `Rules.read`. step: the next day on which one of them may move in a step, or NO_DAY.
    """

    row: Row[int]
    day: int
    model: Parameters
    rules: Rules
    read: tuple[float | str, ...]
    step: int

    def on(self, day: int) -> Standing:
        """Return it as of a later day before the next step, if nothing happens."""
        days = day - self.day
        if days <= 0:
            return self
        row, read, daily = self.row, self.read, self.rules.read_daily
        if row.purchase_days:
            row = row._replace(T=row.T + days, since_last_order=row.since_last_order + days)
        if daily:
            read = tuple(
                value + days if moves and not isinstance(value, str) else value
                for value, moves in zip(read, daily, strict=True)
            )
        return self._replace(row=row, day=day, read=read)

    def otherwise_than(self, before: Standing) -> bool:
        """Return whether other than days have passed since an earlier standing."""
        passed = before.on(self.day)
        return (
            self.model is not before.model
            or self.rules is not before.rules
            or self.row != passed.row
            or self.read != passed.read
        )
