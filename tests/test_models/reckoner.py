"""What a history must come to, computed anew from the contract; it shares nothing with the fold.

All is computed from the list of events at once, in fractions, with the standard library's calendar.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

Event = dict[str, Any]
CHANNEL_COSTS = {"email": 3, "phone": 8, "chat": 4, "social": 4, "web": 2, None: 4}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ToldTwice(Exception):
    """Two different words about one thing that cannot be told apart; the contract decides none."""


@dataclass
class Shop:
    """Settings. rates: for each currency and day, reporting currency per unit."""

    currency: str
    zone: str
    margin: Decimal
    lost_goods: Decimal
    cost_of_a_minute: Decimal
    complaint_topics: frozenset[str]
    fixed: dict[str, Decimal] = field(default_factory=dict)
    daily: dict[str, dict[date, Decimal]] = field(default_factory=dict)

    def day(self, text: str) -> date:
        return moment(text).astimezone(ZoneInfo(self.zone)).date()

    def money(self, amount: str, currency: str, day: date) -> Fraction:
        if currency == self.currency:
            return Fraction(amount)
        if currency in self.fixed:
            return Fraction(amount) * Fraction(self.fixed[currency])
        return Fraction(amount) * self._daily(currency, day) / self._daily(self.currency, day)

    def _daily(self, currency: str, day: date) -> Fraction:
        if currency == "EUR":
            return Fraction(1)
        known = max(each for each in self.daily[currency] if each <= day)
        return 1 / Fraction(self.daily[currency][known])


@dataclass
class Reckoned:
    """Sums of a history."""

    orders: int = 0
    days: set[date] = field(default_factory=set)
    gross: Fraction = Fraction(0)
    margin: Fraction = Fraction(0)
    refunds: int = 0
    refunded: Fraction = Fraction(0)
    contacts: int = 0
    complaints: int = 0
    support: Fraction = Fraction(0)
    acquisition: Fraction = Fraction(0)
    windows: dict[int, list[Fraction]] = field(default_factory=dict)


def moment(text: str) -> datetime:
    """A time cut to the millisecond."""
    exact = datetime.fromisoformat(text)
    return EPOCH + timedelta(milliseconds=(exact - EPOCH) // timedelta(milliseconds=1))


def latest(told: list[Event], time: str, *, revisions: bool = False) -> Event:
    """The word that counts about one thing: the latest revision and word, or the latest time."""

    def rank(event: Event) -> tuple[Any, ...]:
        own = moment(event["data"][time])
        word = moment(event["time"]) if event.get("time") else own
        return (event["data"].get("revision", 0), word) if revisions else (own, word)

    best = max(told, key=rank)
    if any(rank(each) == rank(best) and each["data"] != best["data"] for each in told):
        raise ToldTwice
    return best


def word_of(event: Event, time: str) -> datetime:
    return moment(event.get("time") or event["data"][time])


def reckon(history: list[Event], shop: Shop, today: date) -> Reckoned:
    """Sums of all events, and windows that end today."""
    told: dict[str, dict[str, list[Event]]] = defaultdict(lambda: defaultdict(list))
    names = {
        "order.placed": "order_id", "order.cancelled": "order_id", "order.refunded": "refund_id",
        "ticket.opened": "ticket_id", "ticket.resolved": "ticket_id",
        "customer.acquired": "customer_id",
    }  # fmt: skip
    for event in history:
        told[event["type"]][event["data"][names[event["type"]]]].append(event)
    result = Reckoned(windows={length: [Fraction(0)] * 4 for length in (7, 30, 90, 365)})

    def note(day: date, *more: Fraction | int) -> None:
        for length, sums in result.windows.items():
            if today - timedelta(days=length) < day <= today:
                for number, each in enumerate(more):
                    sums[number] += each

    orders = {
        name: latest(each, "placed_at", revisions=True)
        for name, each in told["order.placed"].items()
    }
    cancelled = set()
    for name, each in told["order.cancelled"].items():
        last = max(moment(event["data"]["cancelled_at"]) for event in each)
        if name not in orders or word_of(orders[name], "placed_at") <= last:
            cancelled.add(name)
    for name, event in orders.items():
        if name in cancelled:
            continue
        data = event["data"]
        day = shop.day(data["placed_at"])
        gross = shop.money(data["total"], data["currency"], day)
        cost = gross * (1 - Fraction(shop.margin))
        if "cost_of_goods" in data:
            cost = shop.money(data["cost_of_goods"], data["currency"], day)
        result.orders += 1
        result.days.add(day)
        result.gross += gross
        result.margin += gross - cost
        note(day, 1, gross, gross - cost)
    for each in told["order.refunded"].values():
        event = latest(each, "refunded_at")
        data = event["data"]
        if data.get("order_id") in cancelled:
            continue
        day = shop.day(data["refunded_at"])
        amount = shop.money(data["amount"], data["currency"], day)
        back = recovered(data, orders.get(data.get("order_id", "")), shop, day)
        result.refunds += 1
        result.refunded += amount
        result.margin -= amount - back
        note(day, 0, -amount, -(amount - back))
    tickets = told["ticket.opened"].keys() | told["ticket.resolved"].keys()
    for name in tickets:
        opened = told["ticket.opened"].get(name)
        resolved = told["ticket.resolved"].get(name)
        first = latest(opened, "opened_at") if opened else None
        end = latest(resolved, "resolved_at") if resolved else None
        result.contacts += 1
        result.support += contact(first, end, shop)
        if first is not None:
            data = first["data"]
            result.complaints += (
                data.get("complaint", False) or data.get("topic") in shop.complaint_topics
            )
            note(shop.day(data["opened_at"]), 0, 0, 0, 1)
        elif end is not None:
            note(shop.day(end["data"]["resolved_at"]), 0, 0, 0, 1)
    for each in told["customer.acquired"].values():
        data = latest(each, "acquired_at")["data"]
        day = shop.day(data["acquired_at"])
        result.acquisition += shop.money(data["cost"], data["currency"], day)
    return result


def recovered(data: Any, order: Event | None, shop: Shop, day: date) -> Fraction:
    """What goods came back with a refund; all is converted at the rate of the refund's day."""
    amount = shop.money(data["amount"], data["currency"], day)
    cost = None
    if order is not None and "cost_of_goods" in order["data"]:
        cost = shop.money(order["data"]["cost_of_goods"], order["data"]["currency"], day)
    if "cost_recovered" in data:
        back = shop.money(data["cost_recovered"], data["currency"], day)
        return min(back, amount if cost is None else cost)
    if "order_id" not in data:
        return Fraction(0)
    kept = 1 - Fraction(shop.lost_goods)
    if cost is None or order is None:
        return amount * (1 - Fraction(shop.margin)) * kept
    gross = shop.money(order["data"]["total"], order["data"]["currency"], day)
    return (cost if amount >= gross else cost * amount / gross) * kept


def contact(opened: Event | None, resolved: Event | None, shop: Shop) -> Fraction:
    """What a contact cost."""
    if resolved is not None:
        data = resolved["data"]
        if "cost" in data:
            return shop.money(data["cost"], data["currency"], shop.day(data["resolved_at"]))
        if "handling_minutes" in data:
            return Fraction(data["handling_minutes"]) * Fraction(shop.cost_of_a_minute)
    return Fraction(CHANNEL_COSTS[opened["data"]["channel"] if opened else None])
