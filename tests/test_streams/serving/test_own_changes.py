"""A customer's page shows all of their changes, however many others there were since."""

import json
import random
import re

import pytest

from models.contracts.clock import Tick
from models.events.kinds import BACKFILL, IDENTITIES
from streams.files.outgoing import cloud_event
from streams.serving import recent_changes
from streams.serving.own_changes import OwnChanges
from streams.serving.places import Place, Places
from tests.test_streams.service.cluster import cluster

from .conftest import front
from .support import NAMES, TIME, order
from .test_pages import page, shown


def test_places_are_found_by_customer_in_the_order_in_which_they_were_read():
    rng = random.Random(3)
    places, wanted = Places(), {f"c{number}": [] for number in range(50)}
    for number in range(5_000):
        name, place = f"c{rng.randrange(50)}", Place(rng.randrange(1_000), number << 27)
        if not rng.randrange(500):
            places.forget(name)
            wanted[name] = []
        places.add(name, place)
        wanted[name].append(place)
        # Looking at them does not hinder adding more.
        if not number % 100:
            assert places.of(name) == wanted[name]
    assert {name: places.of(name) for name in wanted} == wanted
    assert places.of("nobody") == Places().of("nobody") == []


async def published(shop, customer):
    """A customer's changes on the topic, and where they are."""
    topic = shop.service.settings.topics.segment_changes
    return [
        (Place(each.partition, each.offset), json.loads(each.value)["data"])
        for each in await shop.service.records(topic)
        if json.loads(each.value)["data"]["customer_id"] == customer
    ]


def ways(html):
    """The changes that a page shows, as dimension, from and to."""
    found = re.findall(r'class="way">(.*?): (.*?) → <strong>(.*?)</strong>', html)
    return [(name, None if former == "–" else former, now) for name, former, now in found]


async def test_older_changes_than_the_latest_of_all_are_shown(shop, monkeypatch):
    monkeypatch.setattr(recent_changes, "MOST_LATEST", 2)
    await shop.service.publish([order("c03", "2", 100), order("c03", "3", 101, "900.00")])
    await shop.service.settled()
    await shop.service.publish([order("later", "1", 102)])
    await shop.service.settled()
    wanted = [
        (data["dimension"], data["previous"], data["current"])
        for _, data in await published(shop, "c03")
    ]
    assert len(wanted) > 3
    async with front(shop.service) as running:
        html = await shown(running, "/changes", "later")
        assert "c03" not in html
        html = await shown(running, "/customers/c03", "Value over time")
        assert sorted(ways(html), key=str) == sorted(wanted, key=str)
        assert "are shown" not in html
        monkeypatch.setattr("streams.serving.pages.customer.CHANGES", 2)
        read, _ = await page(running, "/customers/c03")
        assert f"{len(wanted)} changes of segment were published; 2 are shown." in read.text


async def test_what_is_not_there_any_more_or_somebody_elses_is_left_out(shop, monkeypatch):
    mine, others = await published(shop, "c03"), await published(shop, "c04")
    places = [place for place, _ in mine]
    beyond = Place(places[0].partition, 1_000_000)
    asked = [*places[:1], others[0][0], beyond, *places[1:]]
    read = OwnChanges(shop.service.broker, shop.service.settings.topics.segment_changes)
    # Those that are known are not read again, until the customer is removed.
    for part in (asked[:2], asked, asked):
        found = await read.at("c03", part)
    assert [each.dimension for each in found] == [data["dimension"] for _, data in mine]
    monkeypatch.setattr("streams.serving.own_changes.log_client", None)
    assert await read.at("c03", asked) == found
    read.forget("c03")
    with pytest.raises(TypeError):
        await read.at("c03", asked)


async def test_of_who_was_erased_and_comes_again_only_what_is_new_is_shown(shop):
    before = len(await published(shop, "c03"))
    erased = cloud_event(
        IDENTITIES, "customer.erased", source="/shop", event_id="e", time=TIME, customer_id="c03",
        data={"customer_id": "c03", "erased_at": TIME},
    )  # fmt: skip
    await shop.service.publish([erased])
    await shop.service.settled()
    await shop.service.publish([order("c03", "new", 1)])
    await shop.service.settled()
    mine = [data for _, data in await published(shop, "c03") if "dimension" in data]
    assert 0 < len(mine) - before <= before
    # One that has seen it all, and one that reads it from the beginning.
    async with front(shop.service) as other:
        for running in (shop, other):
            html = await shown(running, "/customers/c03", "Value over time")
            assert len(ways(html)) == len(mine) - before


@pytest.mark.parametrize("ended", [False, True])
async def test_who_is_being_loaded_is_in_no_list_and_the_pages_say_so(tmp_path, ended):
    async with cluster(tmp_path) as service:
        await service.start_worker()
        await service.publish(
            [order(name, "1")._replace(topic=BACKFILL) for name in NAMES[:3]] + [order("live", "1")]
        )
        await service.settled()
        if ended:
            # As `clv backfill` ends.
            await service.tick(Tick(as_of=TIME))
            await service.settled()
        loading = 0 if ended else 3
        async with front(service) as running:
            answer, _ = await running.get("/v1/due")
            assert answer["backfilled"] == loading
            read, _ = await page(running, "/due")
            assert ("3 customers are not looked at: a backfill" in read.text) is not ended
            html = await shown(running, "/customers/c00", "Value over time")
            assert ("A backfill loaded the last event" in html) is not ended
            assert ("stays for a year" in html) is ended
