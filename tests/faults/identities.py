"""Customers who are erased, and customers who turn out to be one."""

from __future__ import annotations

from datetime import timedelta

from tests.faults.maker import HISTORY_DAYS, MOST_EVENTS, SOURCES, Maker


def change_identities(maker: Maker) -> None:
    """Erase some customers and merge some others; no customer is both."""
    # Of three who become one nothing is to be beyond memory.
    others = [
        customer
        for customer in maker.customers
        if customer not in maker.erased and maker.budget[customer] >= MOST_EVENTS // 2
    ]
    chosen = maker.dice.sample(others, max(len(maker.customers) // 4, 5))
    third = len(chosen) // 3
    erased, chained, pairs = chosen[:third], chosen[third : 2 * third], chosen[2 * third :]
    for number, customer in enumerate(erased):
        # Every other one has no life after it, and an erasure reaches no further than now.
        days = HISTORY_DAYS if number % 2 == 0 else maker.dice.uniform(100, 300)
        if days == HISTORY_DAYS:
            _drop_after(maker, customer, days)
        data = {"customer_id": customer, "erased_at": maker.at(days)}
        position = maker.dice.uniform(0, HISTORY_DAYS)
        maker.put(data, "customer.erased", SOURCES[0], customer, days, position)
    for first, second, third_one in zip(*[iter(chained)] * 3, strict=False):
        _merge(maker, first, second)
        _merge(maker, second, third_one)
    for stays, goes in zip(*[iter(pairs)] * 2, strict=False):
        _merge(maker, stays, goes)


def _drop_after(maker: Maker, customer: str, days: float) -> None:
    """Take back a customer's events that are later than this."""
    last, key = maker.start + timedelta(days=days), customer.encode()
    maker.placed = [
        each for each in maker.placed if each[1].event.key != key or each[1].event.time <= last
    ]


def _merge(maker: Maker, stays: str, goes: str) -> None:
    days = maker.dice.uniform(0, HISTORY_DAYS)
    data = {"customer_id": stays, "merged_from": goes, "merged_at": maker.at(days)}
    position = maker.dice.uniform(0, HISTORY_DAYS)
    maker.put(data, "customer.merged", SOURCES[0], stays, days, position)
