"""All customers of a shop in few bytes each, as a fit needs them, at any time and as they were.

A customer takes a row of whole numbers, 208 bytes; a million take 208 MB, and their keys as much.
Those who have complained take about 200 more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary, complaints_after
from models.economics import MONEY_SCALE, Economics
from models.value import Row, columns_of, value_row

Floats = NDArray[np.float64]

_WORD: Final = 62
"""Bits of a whole number that are used."""

_MASKS: Final = ("mask_0", "mask_1", "mask_2")

MASK_DAYS: Final = _WORD * len(_MASKS) - 1
"""Days before the last purchase day of which each is known; earlier ones are counted only."""

HEAVY: Final = 4
"""Repeat purchases from which on a customer buys often."""

LONGEST_PAST: Final = 182
"""Days of the past at most, so that some may have bought since."""

_SHORTEST_PAST: Final = 28

_FIRST = 64
_EXTRA = ("first_day", "last_day", "early_days", "early_gross", "before", *_MASKS)
"""Beside the fields of a row. early: the first half of the purchase days, and what was paid on
them; 0 where that is not known, or of few. before: the last purchase day before those of the
masks, 0 for none. mask_w: bit i is set if there was a purchase 62 w + i days before the last."""

_COLUMNS = (*Row._fields, *_EXTRA)


class Seen(NamedTuple):
    """The statistics of purchases, in days, of the customers who had bought by a day."""

    x: Floats
    t_x: Floats
    T: Floats
    """To that day."""
    after: Floats
    """Purchases after it."""


class Followed(NamedTuple):
    """Purchase days that a complaint had followed by a day, by customer, as in a `Row`."""

    complained: Floats
    complained_first: Floats
    complained_last: Floats


class Halves(NamedTuple):
    """What customers paid on the first half of their purchase days, and on the others."""

    days: Floats
    gross: Floats
    later_days: Floats
    later_gross: Floats


class Past(NamedTuple):
    """What was known so many days ago, and what came after it."""

    days: int
    seen: Seen


class Population:
    """The customers of a shop, by the keys of their records. Money is in the shop's currency."""

    def __init__(self, economics: Economics) -> None:
        self._economics = economics
        self._places: dict[bytes, int] = {}
        self._free: list[int] = []
        self._table = np.zeros((len(_COLUMNS), _FIRST), dtype=np.int64)
        self._complaints: dict[int, tuple[tuple[int, int], ...]] = {}
        """By place, of those few who complained: purchase days, and when a complaint followed."""

    def __len__(self) -> int:
        return len(self._places)

    def put(self, key: bytes, state: Aggregate) -> None:
        """Take in a customer's state in place of the one known."""
        place = self._places.get(key)
        if place is None:
            place = self._free.pop() if self._free else len(self._places)
            if place >= self._table.shape[1]:
                self._table = np.concatenate((self._table, np.zeros_like(self._table)), axis=1)
            self._places[key] = place
        summary = Summary(state, self._economics)
        row = value_row(summary, summary.last_day, self._economics)
        days = _recent_days(state, summary.last_day, self._economics)
        early = _first_half(state, summary, self._economics)
        self._table[:, place] = (*row, summary.first_day, summary.last_day, *early, *days)
        self._complaints.pop(place, None)
        if any(summary.complained):
            void = cancelled_orders(state)
            _, followed = complaints_after(state, void, summary.first_day, self._economics)
            self._complaints[place] = tuple(followed.items())

    def remove(self, key: bytes) -> None:
        """Forget a customer, who may be unknown."""
        place = self._places.pop(key, None)
        if place is not None:
            self._table[:, place] = 0
            self._complaints.pop(place, None)
            self._free.append(place)

    def keys(self) -> Iterable[bytes]:
        """Return the keys of the customers, in the order of `columns`."""
        return self._places.keys()

    @property
    def buyers(self) -> int:
        """How many customers have bought."""
        return int(np.count_nonzero(self._bought()))

    def columns(self, today: int) -> Row[Floats]:
        """Return the customers as of a day's ordinal, without those who bought after it."""
        places = self._in_order()
        there = self._all("last_day")[places] <= today
        if not there.all():
            places = np.arange(self._table.shape[1])[places][there]
        of = columns_of(self._table[: len(Row._fields), places])
        first, last = (self._all(name)[places] for name in ("first_day", "last_day"))
        bought = of.purchase_days > 0
        return of._replace(
            T=np.where(bought, today - first, 0.0).astype(np.float64),
            since_last_order=np.where(bought, today - last, 0.0).astype(np.float64),
        )

    def last_day(self) -> int:
        """The last day of a purchase; 0 without any."""
        return int(self._all("last_day").max(initial=0))

    def at(self, day: int) -> Seen:
        """Return what was known of purchases on an earlier day, and what came after it.

        Exact where nobody bought more than `MASK_DAYS` after it.
        """
        there = self._bought() & (self._all("first_day") <= day)
        first, last, known, purchases = (
            self._all(name)[there] for name in ("first_day", "last_day", "before", "purchase_days")
        )
        late = np.maximum(last - day, 0)
        after = np.zeros(last.shape, dtype=np.int64)
        known = np.where(late > 0, known, last)
        for number in reversed(range(len(_MASKS))):
            mask, start = self._all(_MASKS[number])[there], number * _WORD
            gone = (1 << np.clip(late - start, 0, _WORD)) - 1
            after += np.bitwise_count(mask & gone)
            left = mask & ~gone
            days = start + np.bitwise_count((left & -left) - 1).astype(np.int64)
            known = np.where(left != 0, last - days, known)
        x = purchases - after - 1
        t_x = np.where(x > 0, known - first, 0)
        return Seen(*(each.astype(np.float64) for each in (x, t_x, day - first, after)))

    def followed(self, day: int, seen: Seen) -> Followed:
        """Return which purchases a complaint had followed by a day; seen: `at` this day."""
        there = self._bought() & (self._all("first_day") <= day)
        number = np.cumsum(there) - 1
        told = [
            (number[place], bought, int(self._all("first_day")[place]))
            for place, pairs in self._complaints.items()
            if there[place]
            for bought, complained_on in pairs
            if complained_on <= day
        ]
        who, bought, first = np.array(told, dtype=np.int64).reshape(-1, 3).T
        last = bought == first + seen.t_x[who].astype(np.int64)
        size = len(seen.x)
        return Followed(
            *(
                np.bincount(who[which], minlength=size).astype(np.float64)
                for which in (~last, ~last & (bought == first), last)
            )
        )

    @property
    def complained(self) -> bool:
        """Whether a complaint followed anybody's purchase."""
        return bool(self._complaints)

    def halves(self, today: int) -> Halves:
        """Return the purchases of those who have bought often, in two halves, as of a day."""
        there = (self._all("early_days") > 0) & (self._all("last_day") <= today)
        days, gross, kept, kept_gross = (
            self._all(name)[there].astype(np.float64)
            for name in ("early_days", "early_gross", "kept_days", "kept_gross")
        )
        later = (kept_gross - gross) / MONEY_SCALE
        return Halves(days, gross / MONEY_SCALE, kept - days, later)

    def past(self, today: int) -> Past | None:
        """Return what was known half of the shop's time ago, at most half a year; None if too new.

        today: the ordinal of the last day that counts; nobody has bought after it.
        """
        first = self._all("first_day")[self._bought()]
        days = min((today - int(first.min(initial=today))) // 2, LONGEST_PAST)
        return Past(days, self.at(today - days)) if days >= _SHORTEST_PAST else None

    def _all(self, name: str) -> NDArray[np.int64]:
        """Return a column of all places; those that nobody has hold zeros."""
        column: NDArray[np.int64] = self._table[_COLUMNS.index(name)]
        return column

    def _bought(self) -> NDArray[np.bool_]:
        return self._all("purchase_days") > 0

    def _in_order(self) -> slice | NDArray[np.intp]:
        """Return the places in the order of `keys`; all of them one after another if they are."""
        number = len(self._places)
        places = np.fromiter(self._places.values(), dtype=np.intp, count=number)
        return slice(number) if np.array_equal(places, np.arange(number)) else places


def _first_half(state: Aggregate, summary: Summary, economics: Economics) -> tuple[int, int]:
    """Return the first half of the purchase days and what was paid on them, by who buys often.

    (0, 0) also for those with returned orders, and where the oldest orders are only summed up.
    """
    if summary.purchase_days <= HEAVY or state.compacted is not None or summary.returned.gross:
        return 0, 0
    void = cancelled_orders(state)
    paid: dict[int, int] = {}
    for key, order in state.orders.items():
        if key not in void:
            day = economics.day(order.time)
            paid[day] = paid.get(day, 0) + economics.convert(order.gross, order.currency, day)
    early = sorted(paid)[: (len(paid) + 1) // 2]
    return len(early), sum(paid[day] for day in early)


def _recent_days(state: Aggregate, last: int, economics: Economics) -> tuple[int, ...]:
    """Return the last purchase day before those of the masks, and the masks."""
    void = cancelled_orders(state)
    days: Iterable[int] = {
        economics.day(order.time) for key, order in state.orders.items() if key not in void
    }
    if state.compacted is not None:
        days = {*days, *(day for day, totals in state.compacted.days.items() if totals.orders)}
        if state.compacted.orders:
            days = {*days, state.compacted.last_day}
    before = 0
    masks = [0] * len(_MASKS)
    for day in days:
        if last - day <= MASK_DAYS:
            word, bit = divmod(last - day, _WORD)
            masks[word] |= 1 << bit
        else:
            before = max(before, day)
    return before, *masks
