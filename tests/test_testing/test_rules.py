"""Rules of segments change while the service runs: each change once, with its cause."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from models.segments import DEFAULT_DIMENSIONS, Dimension
from streams.testing import Topology, WorkerCrashed, running_topology, shop_settings


def by_orders(bound: int, leave: int | None = None, stay: int = 0) -> Dimension:
    """Who has so many orders is many, the others are few."""
    return Dimension.model_validate(
        {
            "name": "loyalty",
            "rules": [
                {
                    "id": "many",
                    "segment": "many",
                    "stay_days": stay,
                    "all": [
                        {"feature": "orders_90d", "is": "at least", "bound": bound, "leave": leave}
                    ],
                },
                {"id": "few", "segment": "few"},
            ],
        }
    )


async def told(topology: Topology, rules: str | None = None) -> list[dict[str, Any]]:
    """Each change of the dimension once, by its id; rules: only those that they decided."""
    records = await topology.topic(topology.settings.topics.segment_changes)
    documents = {each["id"]: each for each in (json.loads(record.value) for record in records)}
    changes = (each["data"] for each in documents.values())
    return [
        each
        for each in changes
        if each["dimension"] == "loyalty" and rules in (None, each["rules"])
    ]


async def test_new_rules_move_whom_they_move_once_and_say_so() -> None:
    settings = shop_settings(dimensions=(by_orders(2),))
    async with running_topology(settings) as topology:
        for customer, orders in (("a", 1), ("b", 2), ("c", 3)):
            for _ in range(orders):
                await topology.orders.placed(customer, total="10.00")
        before = await told(topology)
        assert {(e["customer_id"], e["current"]) for e in before if e["current"] == "many"} == {
            ("b", "many"),
            ("c", "many"),
        }
        assert {each["cause"] for each in before} == {"event"}
        rules = await topology.use_rules((by_orders(3),))
        [change] = await told(topology, rules.version)
        assert (change["customer_id"], change["cause"]) == ("b", "rules")
        assert (change["previous"], change["current"]) == ("many", "few")
        assert before[0]["rules"] == settings.rules.version
        # Whatever comes next is decided by them.
        await topology.orders.placed("b", total="10.00")
        last = (await told(topology, rules.version))[-1]
        assert (last["previous"], last["current"], last["cause"]) == ("few", "many", "event")


async def test_a_dimension_that_comes_and_goes_is_entered_and_left() -> None:
    async with running_topology(shop_settings()) as topology:
        await topology.orders.placed("a", total="10.00")
        await topology.use_rules((*DEFAULT_DIMENSIONS, by_orders(1)), "wider")
        await topology.use_rules(DEFAULT_DIMENSIONS, "narrower")
        assert [(e["previous"], e["current"], e["cause"]) for e in await told(topology)] == [
            (None, "many", "rules"),
            ("many", None, "rules"),
        ]
        update = await topology.updates.last("a")
        assert update.segments.keys() == {each.name for each in DEFAULT_DIMENSIONS}
        assert (await topology.customer("a")).since.keys() == update.segments.keys()
        assert await topology.cache.totals("loyalty") == {}


async def test_workers_that_are_killed_tell_the_changes_of_new_rules_once() -> None:
    """With two workers; one is killed while the tick is on its way, and another comes."""
    settings = shop_settings(dimensions=(by_orders(2),))
    async with running_topology(settings, workers=2) as topology:
        orders = {f"c{number}": random.Random(number).randrange(1, 6) for number in range(60)}
        for customer, number in orders.items():
            for _ in range(number):
                await topology.orders.placed(customer, total="10.00")
        await topology.settled()
        topology.fail_next_send(topology.settings.topics.segment_changes)
        with pytest.raises(WorkerCrashed):
            await topology.use_rules((by_orders(4),))
        await topology.crash()
        await topology.kill_worker()
        await topology.start_worker()
        changes = await told(topology, "rules-2")
        expected = {(c, "many", "few") for c, number in orders.items() if 2 <= number < 4}
        found = [(e["customer_id"], e["previous"], e["current"]) for e in changes]
        assert sorted(found) == sorted(expected)
        assert {each["cause"] for each in changes} == {"rules"}


async def test_stays_and_bounds_to_leave_hold_over_restarts() -> None:
    """What a customer was before is in the stored record, so another worker decides alike."""
    settings = shop_settings(dimensions=(by_orders(3, leave=2, stay=100),))
    async with running_topology(settings) as topology:
        for _ in range(3):
            await topology.orders.placed("a", total="10.00")
        for days, segment in ((95, "many"), (4, "many"), (2, "few")):
            await topology.kill_worker()
            await topology.start_worker()
            await topology.advance(days=days)
            assert (await topology.updates.last("a")).segments == {"loyalty": segment}
        since = (await topology.customer("a")).since["loyalty"]
        assert datetime.fromtimestamp(since / 1000, UTC) == datetime(2026, 10, 9, tzinfo=UTC), (
            "the midnight with which the hundredth day after 1 July begins"
        )
