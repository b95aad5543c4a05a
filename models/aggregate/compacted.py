"""Compacted sums: what is left of the oldest registers after a compaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import astuple

from models.calendar import month_of
from models.currencies import HOME

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.economics import Economics

LONGEST_WINDOW: Final = 365
"""Days for which compacted sums are kept by the day."""

MOST_MONTHS: Final = 120
"""Calendar months before the last one for which compacted purchase days are kept by the month."""

MOST_CURRENCIES: Final = 2
"""Currencies of which compacted sums are kept apart."""

CEILING: Final = 2**62
"""Compacted sums stop here, so that hostile amounts cannot overflow the stored integers."""


class Money(msgspec.Struct, array_like=True, gc=False):
    """Compacted sums of one currency, in its units.

    uncosted: of the orders that did not say their cost; cost: of the others. recovered: as refunds
    said. returned: refunds that did not say it, of uncosted orders; returned_cost: the cost of what
    was refunded of other orders. support: costs of contacts, as given.
    """

    gross: int = 0
    uncosted: int = 0
    cost: int = 0
    refunded: int = 0
    recovered: int = 0
    returned: int = 0
    returned_cost: int = 0
    support: int = 0


Moneys = dict[int, Money]
"""Sums by the number of their currency."""


class DayTotals(msgspec.Struct, array_like=True, gc=False):
    """Compacted sums of one calendar day, for the rolling windows."""

    orders: int = 0
    contacts: int = 0
    money: Moneys = msgspec.field(default_factory=dict)


class Sale(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a compacted order brought and cost, in units of its currency."""

    gross: int
    currency: int
    cost: int


class Compacted(msgspec.Struct, array_like=True, gc=False):
    """Sums over the registers that were compacted.

    A boundary is the (time, fingerprint) of the newest compacted order, refund or ticket; it only
    moves forward. An unknown event at or before its boundary may be a duplicate.

    Days are those of the time zone at the time of compaction. first_day_gross: by currency.
    decaminutes: of contacts that gave no cost; by_channel: contacts that gave neither, by index of
    `CHANNELS`. cancelled: cancelled orders that were compacted, with the cancellation's time;
    refunds of them are void. cancellations_until: time of the latest cancellation that was dropped,
    -1 for none. sold: compacted orders with a cost that a remembered refund names. months: purchase
    days by calendar month, see `models.calendar.month_of`.
    """

    orders_until: tuple[int, int] = (-1, 0)
    refunds_until: tuple[int, int] = (-1, 0)
    tickets_until: tuple[int, int] = (-1, 0)
    orders: int = 0
    purchase_days: int = 0
    first_day: int = 0
    last_day: int = 0
    first_day_gross: dict[int, int] = msgspec.field(default_factory=dict)
    money: Moneys = msgspec.field(default_factory=dict)
    refunds: int = 0
    contacts: int = 0
    complaints: int = 0
    last_complaint: int = 0
    decaminutes: int = 0
    by_channel: dict[int, int] = msgspec.field(default_factory=dict)
    days: dict[int, DayTotals] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    cancellations_until: int = -1
    sold: dict[int, Sale] = msgspec.field(default_factory=dict)
    months: dict[int, int] = msgspec.field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of compacted entries."""
        return self.orders + self.refunds + self.contacts


def compacted_of(state: Aggregate) -> Compacted:
    """Return the sums of a state; they are created if there are none."""
    compacted = state.compacted
    if compacted is None:
        compacted = state.compacted = Compacted()
    return compacted


def add_money(
    sums: Iterable[Moneys], currency: int, more: Money, day: int, config: Economics
) -> None:
    """Add to the sums of a currency, in place; they stop at `CEILING`.

    Amounts whose rate differs by day are converted, since a sum has many days; so are those beyond
    `MOST_CURRENCIES` of one customer. day: ordinal of the day of the amounts.
    """
    if config.by_day(currency):
        currency, more = config.home, _converted(more, currency, day, config)
    for each in sums:
        known = each.get(currency)
        if known is None and len(each) >= MOST_CURRENCIES:
            currency, more = HOME, _converted(more, currency, day, config)
            known = each.get(currency)
        if known is None:
            each[currency] = known = Money()
            if len(each) > 1:
                ordered = dict(sorted(each.items()))
                each.clear()
                each.update(ordered)
        for name in Money.__struct_fields__:
            if amount := getattr(more, name):
                setattr(known, name, min(getattr(known, name) + amount, CEILING))


def is_full(sums: Moneys) -> bool:
    """Return whether the sum of orders' amounts of some currency has reached `CEILING`."""
    return any(CEILING in (money.gross, money.cost) for money in sums.values())


def _converted(money: Money, currency: int, day: int, config: Economics) -> Money:
    return Money(*(config.convert(amount, currency, day) for amount in astuple(money)))


def add_months(compacted: Compacted, months: Mapping[int, int]) -> None:
    """Add purchase days by calendar month, in place, and keep the order."""
    known = compacted.months
    last = next(reversed(known), 0)
    for month, days in months.items():
        known[month] = min(known.get(month, 0) + days, CEILING)
    if known and min(months, default=last) < last:
        compacted.months = dict(sorted(known.items()))


def count_months(compacted: Compacted) -> None:
    """Count purchase days by month in sums of earlier versions, as far as the days are known.

    Known are those of the last year, and the first day.
    """
    if compacted.orders and not compacted.months:
        days = {day for day, totals in compacted.days.items() if totals.orders}
        for day in sorted(days | {compacted.first_day, compacted.last_day}):
            add_months(compacted, {month_of(day): 1})
        prune(compacted)


def prune(compacted: Compacted) -> None:
    """Drop totals of days older than the longest window, and of months beyond `MOST_MONTHS`."""
    for totals, most in ((compacted.days, LONGEST_WINDOW), (compacted.months, MOST_MONTHS)):
        if totals:
            oldest = next(reversed(totals)) - most
            while (first := next(iter(totals))) <= oldest:
                del totals[first]


def totals_of(compacted: Compacted, day: int) -> DayTotals:
    """Return the sums of a calendar day; they are created if there are none."""
    totals = compacted.days.get(day)
    if totals is None:
        last = next(reversed(compacted.days), None)
        totals = compacted.days[day] = DayTotals()
        if last is not None and day < last:
            compacted.days = dict(sorted(compacted.days.items()))
    return totals
