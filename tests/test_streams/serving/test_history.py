"""A customer's history and outlook over HTTP and by the command."""

import asyncio
import json
from urllib.parse import quote

from tests.test_streams.commands import started

from .support import order


async def test_a_past_day_over_http_is_what_was_published_then(shop):
    then = {name: data["clv"] for name, data in (await shop.service.updates()).items()}
    await shop.service.publish([order("c03", "2", 40, "90.00"), order("a/b ü", "2", 50)])
    await shop.service.settled()
    for name in ("c03", "a/b ü"):
        path = f"/v1/history/{quote(name, safe='')}"
        past, _ = await shop.get(f"{path}?on=2026-01-03")
        (day,) = past["days"]
        assert day["clv"] == then[name]
        assert past["known_since"] is None
        now, _ = await shop.get(path)
        current, _ = await shop.get(f"/v1/customers/{quote(name, safe='')}")
        assert now["days"][-1]["clv"] == current["clv"]
        assert now["days"][0]["as_of"] < now["days"][-1]["as_of"] == current["as_of"]


async def test_the_outlook_begins_today_and_says_what_comes_next(shop):
    found, _ = await shop.get("/v1/outlook/c03?days=200")
    current, _ = await shop.get("/v1/customers/c03")
    assert len(found["days"]) == 201
    assert found["days"][0]["clv"] == current["clv"]
    assert {name: each["segment"] for name, each in found["segments"].items()} == current[
        "segments"
    ]
    lifecycle = found["segments"]["lifecycle"]
    assert lifecycle["since"] == current["as_of"]
    # A new customer stays new for 90 days.
    assert (lifecycle["segment"], lifecycle["at"][:10]) == ("new", "2026-04-04")


async def test_who_is_not_there_or_was_not_yet_is_told_apart(shop):
    for path, status in (
        ("/v1/history/nobody", 404),
        ("/v1/outlook/nobody", 404),
        ("/v1/history/c03?on=yesterday", 422),
        ("/v1/outlook/c03?days=0", 422),
    ):
        await shop.get(path, status)
    before, _ = await shop.get("/v1/history/c03?on=2020-01-01")
    assert (before["days"][0]["clv"], before["days"][0]["p_alive"]) == (0.0, None)


async def test_cohorts_are_those_of_the_published_values(shop):
    found = await shop.cohorts()
    updates = (await shop.service.updates()).values()
    (only,) = found["cohorts"]
    assert (only["month"], only["customers"]) == ("2026-01", len(updates))
    for part, name in (("realised", "realised"), ("expected", "expected")):
        total = sum(each[part]["total"] for each in updates)
        assert abs(only[name] - total) < 0.005


async def test_the_command_shows_the_same_history(shop):
    await shop.service.publish([order("c03", "2", 40, "90.00")])
    await shop.service.settled()
    wanted, _ = await shop.get("/v1/history/c03")
    variables = shop.service.environment()
    done = await asyncio.to_thread(started, "show", "c03", "--history", "--json", **variables)
    assert done.returncode == 0, done.stderr
    assert [each["clv"] for each in json.loads(done.stdout)["days"]] == [
        each["clv"] for each in wanted["days"]
    ]
    table = (await asyncio.to_thread(started, "show", "c03", "--history", **variables)).stdout
    assert "2026-01-03" in table
    assert "By the parameters in force on each day" in table
