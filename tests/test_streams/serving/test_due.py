"""Whose segment changes within a week: the list is what then happens, and reads as asked for."""

import asyncio
import csv
import io
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from models.calendar import milliseconds
from models.coming import Coming, coming
from models.context import Context
from models.contracts.clock import Tick
from models.economics import Economics
from streams.serving import beside
from streams.serving.beside import LEAST_AGE
from streams.serving.due import Asked, exported, found
from streams.serving.looking_ahead import Ahead
from streams.simulation.clock import START
from streams.testing import running_topology
from streams.topics import changelog_topic
from tests.test_models.parameters import PARAMETERS

from .conftest import front
from .support import NAMES

FITTED = PARAMETERS.model_copy(update={"currency": "EUR"})


async def states_of(topology):
    records = await topology.topic(changelog_topic(topology.settings))
    return {record.key: record.value for record in records}


async def told(topology):
    return {
        (each.customer_id, milliseconds(each.as_of), each.dimension, each.previous, each.current):
        each.clv_after
        for each in await topology.segment_changes.all()
    }  # fmt: skip


async def test_a_week_later_exactly_the_listed_changes_have_come_each_on_its_day():
    chance = Random(1)
    async with running_topology(parameters=FITTED) as topology:
        days = sorted(chance.uniform(0, 500) for _ in range(600))
        for number, ago in enumerate(reversed(days)):
            await topology.orders.placed(
                f"c{chance.randrange(250)}", total=f"{chance.randrange(5, 90)}.00",
                at=START - timedelta(days=ago), order_id=f"o{number}",
            )  # fmt: skip
        await topology.advance(to=START)
        before, states = await told(topology), await states_of(topology)
        context = Context(topology.settings.economics, FITTED, topology.settings.rules)
        economics, now = context.economics, milliseconds(START)
        until = economics.day_begins(economics.day(now) + 7)
        listed = list(coming(states, list(states), context, until))
        assert len({each.at for each in listed}) > 3
        for day in range(1, 8):
            await topology.advance(days=1)
            by_then = now + day * 86_400_000
            came = {key: clv for key, clv in (await told(topology)).items() if key not in before}
            assert came == {
                each[:5]: pytest.approx(each.clv) for each in listed if each.at <= by_then
            }


async def test_the_api_says_what_comes_and_when_alike_in_list_and_outlook(shop):
    async with front(shop.service, now=datetime(2026, 3, 30, 12, tzinfo=UTC)) as running:
        page, _ = await running.get("/v1/due?limit=500")
        assert (page["now"], page["until"]) == ("2026-03-30T12:00:00Z", "2026-04-06T00:00:00Z")
        assert (page["matching"], page["overdue"], page["next"]) == (21, 0, None)
        for each in page["changes"]:
            # A new customer stays new for 90 days.
            assert (each["dimension"], each["previous"]) == ("lifecycle", "new")
            assert each["at"] == "2026-04-04T00:00:00Z"
        assert {each["customer_id"] for each in page["changes"]} == {*NAMES, "a/b ü"}
        outlook, _ = await running.get("/v1/outlook/c03")
        (mine,) = [each for each in page["changes"] if each["customer_id"] == "c03"]
        assert outlook["next_due"] == {"at": mine["at"], "segments": {"lifecycle": mine["current"]}}
        assert outlook["days"][0]["as_of"] == "2026-03-30T12:00:00Z"
        nearer, _ = await running.get("/v1/due?days=4")
        assert (nearer["matching"], nearer["until"]) == (0, "2026-04-03T00:00:00Z")
        await running.get("/v1/due?days=8", 422)
        await running.get("/v1/due?order=newest", 422)
        await running.get("/v1/due?cursor=x", 422)


async def test_a_list_in_parts_is_the_whole_list(shop):
    async with front(shop.service, now=datetime(2026, 3, 30, 12, tzinfo=UTC)) as running:
        for order_ in ("soonest", "highest", "lowest"):
            whole, _ = await running.get(f"/v1/due?limit=500&order={order_}")
            values = [each["clv"] for each in whole["changes"]]
            # All are due on the same day.
            assert values == sorted(values, reverse=order_ != "lowest")
            listed, query = [], f"/v1/due?limit=4&order={order_}"
            page, _ = await running.get(query)
            while page["next"] is not None:
                listed += page["changes"]
                page, _ = await running.get(f"{query}&cursor={page['next']}")
            assert [*listed, *page["changes"]] == whole["changes"]


async def test_what_is_overdue_is_listed_until_it_is_told(shop):
    now = datetime(2026, 4, 5, tzinfo=UTC)
    async with front(shop.service, now=now) as running:
        page, _ = await running.get("/v1/due")
        assert (page["matching"], page["overdue"]) == (21, 21)
        outlook, _ = await running.get("/v1/outlook/c03")
        assert outlook["next_due"]["at"] == page["changes"][0]["at"] == "2026-04-04T00:00:00Z"
        # As a sweep does it.
        await shop.service.tick(Tick(as_of=now, due=True))
        await shop.service.settled()
        # What is told is taken from the list at once; it is not made anew for that.
        async with asyncio.timeout(LEAST_AGE - 5.0):
            while page["matching"]:
                await asyncio.sleep(0.1)
                page, _ = await running.get("/v1/due")
    async with front(shop.service, now=now) as running:
        page, _ = await running.get("/v1/due")
        assert (page["matching"], page["changes"]) == (0, [])
        outlook, _ = await running.get("/v1/outlook/c03")
        assert outlook["segments"]["lifecycle"]["segment"] != "new"
        assert outlook["next_due"]["at"] > "2026-04-05"


async def test_the_list_is_made_anew_when_other_parameters_hold(shop, monkeypatch):
    monkeypatch.setattr(beside, "SETTLE_SECONDS", 0.0)
    before, _ = await shop.get("/v1/due")
    await shop.service.publish_parameters(PARAMETERS)
    async with asyncio.timeout(LEAST_AGE - 5.0):
        page = before
        while page["at"] == before["at"]:
            await asyncio.sleep(0.1)
            page, _ = await shop.get("/v1/due")


ECONOMICS = Economics()


def change(customer, day, dimension, previous, current, clv):
    return Coming(customer, ECONOMICS.day_begins(day), dimension, previous, current, clv)


async def test_the_file_is_filtered_and_safe_to_open():
    today = date(2026, 5, 1).toordinal()
    changes = [
        change("=1+1", today + 1, "lifecycle", "active", "at risk", 10.0),
        change("b", today + 2, "tier", "gold", "silver", -2.5),
        change("c", today + 7, "lifecycle", "at risk", "lost", 3.0),
    ]
    ahead = Ahead(
        datetime.now(UTC),
        ECONOMICS.day_begins(today) + 1,
        ECONOMICS.day_begins(today + 7),
        {each.customer_id: [each] for each in changes},
        0,
    )

    def read(asked):
        text = "".join(exported(ahead, asked, ECONOMICS))
        return list(csv.DictReader(io.StringIO(text)))

    assert [row["customer_id"] for row in read(Asked())] == ["'=1+1", "b", "c"]
    assert [row["value"] for row in read(Asked(order="lowest"))] == ["-2.50", "3.00", "10.00"]
    assert read(Asked(days=2, previous="gold")) == [
        {
            "customer_id": "b", "due": "2026-05-03T00:00:00+00:00", "dimension": "tier",
            "from": "gold", "to": "silver", "value": "-2.50", "currency": "USD",
        }
    ]  # fmt: skip
    for asked, number in (
        (Asked(days=1), 1), (Asked(dimension="tier"), 1), (Asked(current="lost"), 1),
        (Asked(previous="new"), 0), (Asked(days=6, dimension="lifecycle"), 1),
    ):  # fmt: skip
        assert len(read(asked)) == found(ahead, asked, 50, ECONOMICS).matching == number
