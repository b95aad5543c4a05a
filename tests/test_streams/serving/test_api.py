"""The read API over HTTP, in front of a real worker, broker and Redis."""

import asyncio
import json
import os
import signal
from urllib.parse import quote

import pytest

from models.contracts.outputs import ValueUpdate
from streams.cache import connect
from streams.serving.tokens import is_loopback

from .conftest import front
from .support import NAMES, order

TOKEN = "a token that nobody guesses"


async def events(response, count):
    """The first events of a stream: id, name and data."""
    found, event = [], {}
    async for line in response.content:
        name, _, text = line.decode().rstrip("\n").partition(": ")
        if name and text and name != "":
            event[name] = text
        elif event.get("data"):
            found.append((event["id"], event["event"], json.loads(event["data"])))
            event = {}
        if len(found) == count:
            return found
    raise AssertionError(f"the stream ended after {found}")


async def test_a_customer_is_answered_as_published_with_a_tag_of_the_version(shop):
    data, headers = await shop.get("/v1/customers/c03")
    assert ValueUpdate.model_validate(data).customer_id == "c03"
    assert data == (await shop.service.updates())["c03"]
    assert headers["ETag"] == '"1"'
    await shop.get("/v1/customers/c03", 304, **{"If-None-Match": headers["ETag"]})
    await shop.service.publish([order("c03", "2", 40)])
    await shop.service.settled()
    data, headers = await shop.get("/v1/customers/c03", **{"If-None-Match": headers["ETag"]})
    assert (data["totals"]["orders"], headers["ETag"]) == (2, '"2"')
    # Ids are taken literally.
    data, _ = await shop.get("/v1/customers/" + quote("a/b ü", safe=""))
    assert data["customer_id"] == "a/b ü"
    data, _ = await shop.get("/v1/customers/nobody", 404)
    assert "no customer 'nobody'" in data["detail"]


async def test_pages_of_the_ranking_have_everybody_once_by_value(shop):
    for limit in (1, 4, 20, 500):
        found, cursor = [], ""
        while cursor is not None:
            page, _ = await shop.get(f"/v1/ranking?limit={limit}{cursor and f'&cursor={cursor}'}")
            assert len(page["customers"]) <= limit
            found += page["customers"]
            cursor = page["next"]
        assert sorted(each["customer_id"] for each in found) == sorted([*NAMES, "a/b ü"])
        values = [each["clv"] for each in found]
        assert values == sorted(values, reverse=True)
    # It goes on, though the last customer has moved meanwhile.
    first, _ = await shop.get("/v1/ranking?limit=5")
    last = first["customers"][-1]
    await shop.service.publish([order(last["customer_id"], "2", 30, total="9000.00")])
    await shop.service.settled()
    rest, _ = await shop.get(f"/v1/ranking?limit=500&cursor={first['next']}")
    seen = {each["customer_id"] for each in (*first["customers"], *rest["customers"])}
    assert seen == {*NAMES, "a/b ü"}
    assert all(each["clv"] <= last["clv"] for each in rest["customers"])


async def test_segments_count_their_customers_and_their_value(shop):
    totals, _ = await shop.get("/v1/segments")
    updates = await shop.service.updates()
    assert totals["customers"] == len(updates)
    for dimension, segments in totals["dimensions"].items():
        for segment, total in segments.items():
            mine = [each for each in updates.values() if each["segments"][dimension] == segment]
            assert total["customers"] == len(mine)
            assert total["value"] == pytest.approx(sum(each["clv"] for each in mine), abs=0.2)
            found, cursor = [], ""
            while cursor is not None:
                path = f"/v1/segments/{dimension}/{quote(segment)}?limit=7{cursor}"
                page, _ = await shop.get(path)
                found += [each["customer_id"] for each in page["customers"]]
                cursor = page["next"] and f"&cursor={page['next']}"
            assert sorted(found) == sorted(each["customer_id"] for each in mine)
    data, _ = await shop.get("/v1/segments/nosuch/gold", 404)
    assert "there are lifecycle" in data["detail"]


async def test_changes_come_within_a_second_and_go_on_behind_the_last_id(shop):
    stream = shop.client.get(f"{shop.url}/v1/changes?customer_id=new")
    async with stream as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        await response.content.readline()
        await shop.service.publish([order("new", "1", 1), order("other", "1", 1)])
        ((first, name, change),) = await asyncio.wait_for(events(response, 1), 20)
        assert (name, change["data"]["customer_id"]) == ("clv.segment-changed", "new")
    await shop.service.settled()
    wanted = sum(
        json.loads(record.value)["data"]["customer_id"] == "new"
        for record in await shop.service.records(shop.service.settings.topics.segment_changes)
    )
    assert wanted > 1
    async with shop.client.get(
        f"{shop.url}/v1/changes?customer_id=new", headers={"Last-Event-ID": first}
    ) as response:
        rest = await asyncio.wait_for(events(response, wanted - 1), 20)
    ids = [each["id"] for _, _, each in rest]
    assert len({change["id"], *ids}) == wanted


async def test_errors_say_what_to_do(shop):
    for path, status, words in (
        ("/v1/ranking?limit=0", 422, "limit"),
        ("/v1/ranking?cursor=nonsense", 422, "leave it out"),
        ("/v1/segments/lifecycle/new?cursor=WzFd", 422, "leave it out"),
        ("/v1/model", 404, "no parameters are published yet"),
        ("/v2/anything", 404, "/openapi.json"),
    ):
        data, headers = await shop.get(path, status)
        assert headers["Content-Type"] == "application/problem+json"
        assert (data["status"], words in data["detail"]) == (status, True)
    for wrong in ("nonsense", "0:999999"):
        data, _ = await shop.get("/v1/changes", 422, **{"Last-Event-ID": wrong})
        assert "Last-Event-ID" in data["detail"]


async def test_while_redis_is_away_it_says_so_and_recovers(shop):
    redis = connect(shop.service.redis_url)
    pid = (await redis.info("server"))["process_id"]
    await redis.aclose()
    os.kill(pid, signal.SIGSTOP)
    try:
        data, headers = await shop.get("/v1/customers/c03", 503)
        assert "Redis cannot be read" in data["detail"]
        assert headers["Retry-After"]
        assert (await shop.get("/health", 503))[0]["status"] == "degraded"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (await shop.get("/v1/customers/c03"))[0]["customer_id"] == "c03"
    assert (await shop.get("/health"))[0]["status"] == "ok"


async def test_tokens_are_asked_for_where_there_are_any_and_openapi_describes_all(shop):
    async with front(shop.service, (TOKEN, TOKEN[::-1])) as guarded:
        for sent in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            data, headers = await guarded.get("/v1/ranking", 401, **sent)
            assert headers["WWW-Authenticate"] == "Bearer"
            assert "CLV_SERVE__READ_TOKENS" in data["detail"]
        for token in (TOKEN, TOKEN[::-1]):
            await guarded.get("/v1/ranking", Authorization=f"Bearer {token}")
        await guarded.get("/health")
    document, _ = await shop.get("/openapi.json")
    assert set(document["paths"]) == {
        "/health", "/v1/changes", "/v1/cohorts", "/v1/customers/{customer_id}",
        "/v1/dead-letters/retry", "/v1/due", "/v1/flows",
        "/v1/history/{customer_id}", "/v1/model", "/v1/model/calibration", "/v1/operations",
        "/v1/outlook/{customer_id}", "/v1/ranking", "/v1/segments",
        "/v1/segments/{dimension}/{segment}",
    }  # fmt: skip
    text = json.dumps(document)
    assert "HTTPValidationError" not in text
    assert "#/components/schemas/ProblemDocument" in text


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("clv", False)],
)
def test_only_this_machine_reaches_loopback(host, own):
    assert is_loopback(host) is own
