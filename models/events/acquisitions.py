"""What it cost to win a customer: `customer.acquired`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from models.aggregate.registers import Register, fingerprint, insert
from models.currencies import NUMBERS
from models.events.fields import CurrencyCode, EventData, Id, Label, MoneyText, Time, money_units
from models.events.kinds import Effect, Entries, EventType, lag_of, lost, register, won

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.economics import Economics
    from models.events.envelope import Envelope

MOST_ACQUISITIONS: Final = 1_000
"""How many ids of one customer may have an acquisition cost."""

LONGEST_CHANNEL: Final = 40
"""Bytes of a channel's name that are kept."""


class CustomerAcquired(EventData):
    """What it cost to win a customer, and by which channel and campaign."""

    time_field: ClassVar[str] = "acquired_at"

    customer_id: Id
    acquired_at: Time
    cost: MoneyText
    currency: CurrencyCode
    channel: Label | None = None
    campaign: Label | None = None


class Acquisition(Register, array_like=True, frozen=True, order=True, gc=False):
    """What it cost to win a customer, and by which channel, by the latest event about it."""

    time: int
    lag: int
    cost: int
    currency: int
    channel: str = ""


class Acquisitions(Entries):
    """The acquisition cost of each of a customer's ids; the latest event counts."""

    field = "acquisitions"

    def tidy(self, state: Aggregate) -> None:
        """Drop the oldest above `MOST_ACQUISITIONS`, in place."""
        for key in list(state.acquisitions)[:-MOST_ACQUISITIONS]:
            del state.acquisitions[key]


ACQUISITIONS: Final = Acquisitions()


def kept_channel(channel: str) -> str:
    """Return a channel's name as it is kept: its first `LONGEST_CHANNEL` bytes."""
    return channel.encode()[:LONGEST_CHANNEL].decode(errors="ignore")


def first_channel(state: Aggregate) -> str:
    """Return the channel of the earliest acquisition that says one; empty for none."""
    # They are in order of time.
    return next((each.channel for each in state.acquisitions.values() if each.channel), "")


def _fold(state: Aggregate, event: Envelope, time: int, _config: Economics) -> Effect:
    data: CustomerAcquired = event.data
    key = fingerprint(data.customer_id)
    incoming = Acquisition(
        time,
        lag_of(event, time),
        money_units(data.cost),
        NUMBERS[data.currency],
        kept_channel(data.channel or ""),
    )
    known = state.acquisitions.get(key)
    if known is not None and known >= incoming:
        return lost(known, incoming)
    if known is None and len(state.acquisitions) >= MOST_ACQUISITIONS:
        return Effect.TOO_OLD
    insert(state.acquisitions, key, incoming, ACQUISITIONS.time_of)
    return won(known, incoming)


def _too_old(data: CustomerAcquired, _config: Economics) -> tuple[str, str]:
    return "customer_id", (
        f"data.customer_id is {data.customer_id!r}, and {MOST_ACQUISITIONS} other ids of "
        "the same customer have told what it cost to win them, which is as many as are "
        "remembered; check whether they are one customer"
    )


register(EventType("customer.acquired", CustomerAcquired, "customers", ("cost",), _fold, _too_old))
