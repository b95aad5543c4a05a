"""Flows between segments equal an independent count, also where changes were sent twice."""

import asyncio
import json
import random
import signal
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from models.economics import Economics
from streams.serving.places import Place
from streams.serving.recent_changes import MOST_LATEST, RecentChanges

from .support import TIME, order

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")

NAMES = ["new", "active", "at risk", None]
NOWHERE = Place(0, 0)


def published(number, rng):
    """A segment change as it is published, at some time of ten days."""
    as_of = TIME + timedelta(hours=rng.randrange(240))
    data = {
        "customer_id": f"c{number % 50}", "version": number, "dimension": rng.choice("ab"),
        "previous": rng.choice(NAMES), "current": rng.choice(NAMES), "cause": "event",
        "reason": {"text": "."}, "rules": "", "model": {}, "clv_before": None,
        "clv_after": rng.randrange(-500, 5000) / 100, "as_of": as_of.isoformat(),
    }  # fmt: skip
    return {"id": f"c/{number}", "type": "clv.segment-changed", "data": data}


def record(time, document):
    """A record as it is taken in: its offset in a partition is its time."""
    return time, json.dumps(document).encode(), Place(1, time)


@pytest.mark.parametrize("seed", range(3))
def test_flows_of_a_period_equal_a_query_over_the_topic_without_repeats(seed):
    rng = random.Random(seed)
    changes = [published(number, rng) for number in range(500)]
    sent = changes + rng.sample(changes, 100)
    rng.shuffle(sent)
    removal = b'{"id":"c/x","type":"clv.customer-removed","data":{"customer_id":"c1"}}'
    counted = RecentChanges(Economics())
    for part in (sent[:200], sent[200:]):
        counted.take([(0, removal, NOWHERE), (0, None, NOWHERE), (0, b"{", NOWHERE)])
        counted.take(record(number, each) for number, each in enumerate(part))
    first, last = date(2026, 1, 5), date(2026, 1, 9)
    with duckdb.connect() as db:
        db.execute(
            "create table changes (id text, as_of timestamp, dimension text, previous text, "
            "current text, clv decimal(18, 2))"
        )
        rows = [
            (
                each["id"],
                datetime.fromisoformat(each["data"]["as_of"]).astimezone(UTC).replace(tzinfo=None),
                each["data"]["dimension"],
                each["data"]["previous"],
                each["data"]["current"],
                each["data"]["clv_after"],
            )
            for each in sent
        ]
        db.executemany("insert into changes values (?, ?, ?, ?, ?, ?)", rows)
        wanted = db.execute(
            "select dimension, previous, current, count(*), sum(clv) from (select distinct * from "
            "changes) where as_of::date between ? and ? group by all",
            [first, last],
        ).fetchall()
    found = counted.flows(first.toordinal(), last.toordinal())
    assert {(*step, flow.customers, flow.value_cents) for step, flow in found.items()} == {
        (*which, number, int(100 * value)) for *which, number, value in wanted
    }
    days = [datetime.fromisoformat(each["data"]["as_of"]).toordinal() for each in changes]
    assert counted.days == (min(days), max(days))


def test_the_latest_changes_are_those_published_last_in_whatever_order_they_are_read():
    rng = random.Random(4)
    changes = [(number, published(number, rng)) for number in range(MOST_LATEST + 300)]
    rng.shuffle(changes)
    read = RecentChanges(Economics())
    read.take(record(time, each) for time, each in changes)
    changes.sort(key=lambda each: -each[0])
    assert [each.customer_id for each in read.latest] == [
        each["data"]["customer_id"] for _, each in changes[:MOST_LATEST]
    ]


def test_of_a_removed_customer_only_counts_stay():
    rng = random.Random(7)
    changes = [published(number, rng) for number in range(200)]
    removal = b'{"id":"c/x","type":"clv.customer-removed","data":{"customer_id":"c7"}}'
    gone = []
    read = RecentChanges(Economics(), gone.append)
    read.take(record(number, each) for number, each in enumerate(changes))
    assert len(list(read.of_customer("c7"))) == len(read.places.of("c7")) == 4
    read.take([(200, removal, NOWHERE)])
    assert gone == ["c7"]
    assert list(read.of_customer("c7")) == read.places.of("c7") == []
    assert len(read.latest) == 196
    flows = read.flows(date.min.toordinal(), date.max.toordinal())
    assert sum(flow.customers for flow in flows.values()) == 200
    # Since a partition was added, what was before it is read later.
    read.take([record(150, changes[7] | {"id": "c/old"})])
    assert list(read.of_customer("c7")) == read.places.of("c7") == []
    # Who comes again is shown again.
    read.take([record(201, changes[7] | {"id": "c/new"})])
    assert [each.customer_id for each in read.latest[:1]] == ["c7"]
    assert read.places.of("c7") == [Place(1, 201)]


async def flows_equal_the_topic(shop):
    """Compare the flows with the changes of the topic, each id once; return the records of it."""
    topic = shop.service.settings.topics.segment_changes
    records = [json.loads(each.value) for each in await shop.service.records(topic)]
    wanted = Counter(
        (data["dimension"], data["previous"], data["current"])
        for data in {each["id"]: each["data"] for each in records}.values()
    )
    found, answer = {}, {}
    for _ in range(100):
        answer, _ = await shop.get("/v1/flows")
        found = {
            (each["dimension"], each["previous"], each["current"]): each["customers"]
            for each in answer["flows"]
        }
        if found == wanted:
            break
        await asyncio.sleep(0.05)
    assert found == wanted
    assert answer["counted"] == 1.0
    return records


async def test_the_api_counts_what_a_worker_published(shop):
    await shop.service.publish([order(f"c{number:02d}", "2", 300) for number in range(5)])
    await shop.service.settled()
    records = await flows_equal_the_topic(shop)
    day, _ = await shop.get("/v1/flows?first=2026-01-03&last=2026-01-03")
    assert sum(each["customers"] for each in day["flows"]) == sum(
        datetime.fromisoformat(each["data"]["as_of"]).date() == date(2026, 1, 3) for each in records
    )


async def test_flows_add_up_to_the_segments_also_after_crashes(shop):
    """Who came into a segment and has not left it is in it: whatever was sent twice."""
    for turn in range(4):
        orders = [
            order(f"k{number % 300}", f"{turn}/{number}", 30 * turn, f"{1 + number % 90}.00")
            for number in range(600)
        ]
        publishing = asyncio.create_task(shop.service.publish(orders))
        await asyncio.sleep(0.3)
        await shop.service.workers[-1].stop(signal.SIGKILL)
        await publishing
        await shop.service.start_worker()
    await shop.service.settled()
    records = await flows_equal_the_topic(shop)
    assert len(records) > 1_000
    answer, _ = await shop.get("/v1/flows")
    net = Counter()
    for each in answer["flows"]:
        net[each["dimension"], each["current"]] += each["customers"]
        if each["previous"] is not None:
            net[each["dimension"], each["previous"]] -= each["customers"]
    segments, _ = await shop.get("/v1/segments")
    assert +net == Counter(
        {
            (dimension, name): total["customers"]
            for dimension, found in segments["dimensions"].items()
            for name, total in found.items()
        }
    )
