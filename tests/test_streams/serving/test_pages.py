"""The pages as HTML, before any script runs."""

import asyncio
import csv
import io
import os
import re
import signal
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from models.calibration import Calibration, Group
from streams.cache import connect
from streams.registry.reading import write_document
from streams.registry.records import calibration_key
from streams.serving.distribution import edges
from streams.serving.pace import Pace, Pacer
from streams.serving.pages.charts import curve, waterfall
from tests.test_models.parameters import PARAMETERS
from tests.test_streams.service.cluster import cluster

from .conftest import front
from .support import NAMES, order

TOKEN = "a token that nobody guesses"
PAGES = ("/", "/customers", "/due", "/changes", "/flows", "/cohorts", "/model", "/operations")


class _Text(HTMLParser):
    """The text that is shown, and the addresses of links and of what is loaded."""

    def __init__(self):
        super().__init__()
        self.text, self.links, self.loaded = "", [], []

    @classmethod
    def of(cls, html):
        read = cls()
        read.feed(html)
        return read.text

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag == "a":
            self.links.append(named["href"])
        self.loaded += [named[name] for name in ("src",) if name in named]
        if tag == "link":
            self.loaded.append(named["href"])

    def handle_data(self, data):
        self.text += f" {data.strip()}" if data.strip() else ""


async def page(running, path, status=200, **given):
    async with running.client.get(running.url + path, allow_redirects=False, **given) as response:
        assert response.status == status, await response.text()
        assert response.content_type == "text/html"
        read = _Text()
        read.feed(await response.text())
        return read, response


async def shown(running, path, words):
    """The HTML of a page as soon as it has these words: some of them come in the background."""
    async with asyncio.timeout(30):
        while True:
            async with running.client.get(running.url + path) as response:
                html = await response.text()
            if words in html:
                return html
            await asyncio.sleep(0.1)


async def test_every_page_is_complete_without_scripts_and_loads_nothing_from_elsewhere(shop):
    for path in (*PAGES, "/customers/c03"):
        read, response = await page(shop, path)
        assert all(address.startswith(("/", "#")) for address in (*read.links, *read.loaded))
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        for address in {*read.loaded, *read.links} - {"#main"}:
            if not address.startswith("#"):
                async with shop.client.get(shop.url + address) as found:
                    assert found.status == 200, (path, address)


async def test_the_overview_shows_what_the_api_says(shop):
    read, _ = await page(shop, "/")
    totals, _ = await shop.get("/v1/segments")
    assert f"Customers {totals['customers']} " in read.text
    for dimension, segments in totals["dimensions"].items():
        assert dimension.capitalize() in read.text
        for segment, total in segments.items():
            assert re.search(rf"{re.escape(segment)} {total['customers']} ", read.text)


async def test_a_list_is_filtered_by_segments_and_value_in_both_orders(shop):
    updates = await shop.service.updates()
    by_value = sorted(updates.values(), key=lambda each: -each["clv"])
    bound = by_value[5]["clv"]
    for query, wanted in (
        ("", by_value),
        ("?order=lowest", by_value[::-1]),
        (f"?least={bound!r}", by_value[:6]),
        (f"?most={bound!r}", [each for each in by_value if each["clv"] <= bound]),
        (f"?most={bound!r}&order=lowest", [e for e in by_value[::-1] if e["clv"] <= bound]),
        ("?lifecycle=new", [each for each in by_value if each["segments"]["lifecycle"] == "new"]),
        ("?lifecycle=lost", []),
    ):
        read, _ = await page(shop, f"/customers{query}")
        shown = [each for each in read.links if each.startswith("/customers/")]
        values = [updates[_id(each)]["clv"] for each in shown]
        assert sorted(shown) == sorted(
            f"/customers/{quote(each['customer_id'], safe='')}" for each in wanted
        )
        assert values == [each["clv"] for each in wanted]
        async with shop.client.get(f"{shop.url}/customers.csv{query}") as response:
            assert response.content_type == "text/csv"
            rows = list(csv.DictReader(io.StringIO((await response.text()).removeprefix("\ufeff"))))
        assert [row["value"] for row in rows] == [f"{value:.2f}" for value in values]
        assert {row["customer_id"] for row in rows} == {each["customer_id"] for each in wanted}
    for query, words in (("least=x", "write a number"), ("order=up", "highest or lowest")):
        read, _ = await page(shop, f"/customers?{query}", 422)
        assert words in read.text


def _id(address):
    return {quote(name, safe=""): name for name in (*NAMES, "a/b ü")}[address.split("/")[-1]]


async def test_what_comes_from_outside_is_text_and_a_file_has_no_formulas(shop):
    wild = "=1+<script>alert(1)</script>"
    await shop.service.publish([order(wild, "1")])
    await shop.service.settled()
    for path in ("/", "/customers", "/changes", "/customers/" + quote(wild, safe="")):
        assert wild not in await shown(shop, path, "&lt;script&gt;")
    async with shop.client.get(f"{shop.url}/customers.csv") as response:
        assert f"\n'{wild}," in (await response.text()).replace("\r", "")


async def test_a_customer_is_explained(shop):
    await shown(shop, "/customers/c03", "Probability of still being")
    read, _ = await page(shop, "/customers/c03")
    data, _ = await shop.get("/v1/customers/c03")
    assert f"Value {data['clv']:.2f}" in read.text
    for words in ("Margin earned", "order value", "lifecycle new", "Probability of still being"):
        assert words in read.text
    read, _ = await page(shop, "/customers/nobody", 404)
    assert "no customer 'nobody'" in read.text


async def test_an_address_that_is_not_there_is_said_to_people_and_to_programs(shop):
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/nothing", "/static/nothing", "/nothing/<b>"):
        read, _ = await page(shop, path, 404, headers=browser)
        assert f"There is no page {path} ." in read.text.replace(f"{path}.", f"{path} .")
        assert "/" in read.links
        problem, _ = await shop.get(path, 404)
        assert problem["detail"] == f"there is no {path}; see /openapi.json"
    problem, _ = await shop.get("/v1/nothing", 404, **browser)
    assert problem["title"] == "Not Found"


async def test_operations_show_workers_lag_and_what_was_refused(shop):
    await shop.service.publish([order("c01", "2", total="1.00"), order("c01", "3", total="-1.00")])
    await shop.service.settled()
    html = await shown(shop, "/operations", "data.total")
    assert re.search(r"Waiting \d+ .* Dead letters 1 .* Workers 1 ", _Text.of(html))
    assert "clv dead-letters retry" in html
    (worker,) = shop.service.workers
    await worker.stop()
    await shop.service.publish([order(f"c{number:02d}", "9", 3) for number in range(7)])
    left = await shown(shop, "/operations", '<p class="number">7</p>')
    assert " Waiting 7 " in _Text.of(left)
    # It has left the group, and not only fallen silent.
    assert "No worker is running" in await shown(shop, "/operations", "No worker is running")
    assert "No worker is running" in await shown(shop, "/", "No worker is running")
    said, _ = await shop.get("/v1/operations")
    assert (said["workers"], said["behind"], said["dead_letters"]) == (0, 7, {"invalid-field": 1})
    assert [each["reason"] for each in said["newest"]] == ["invalid-field"]
    assert sum(each["behind"] for each in said["partitions"]) == 7


async def test_the_overview_says_how_many_events_a_second_are_processed(shop):
    await shown(shop, "/", "processed in")
    began = (await shop.get("/v1/operations"))[0]
    number = 300
    await shop.service.publish([order(f"c{n % 20:02d}", f"r{n}", 3) for n in range(number)])
    await shop.service.settled()
    async with asyncio.timeout(30):
        while True:
            ended, _ = await shop.get("/v1/operations")
            if ended["behind"] == 0 and ended["events_per_second"] > began["events_per_second"]:
                break
            await asyncio.sleep(0.2)
    published = sum(each["end"] for each in ended["partitions"])
    assert published - sum(each["end"] for each in began["partitions"]) == number
    assert ended["standing_still_seconds"] == 0


async def test_the_model_is_shown_with_what_it_expected_and_what_came(shop):
    await shop.service.publish_parameters(PARAMETERS)
    assert "None is published with" in await shown(shop, "/model", PARAMETERS.version)
    problem, _ = await shop.get("/v1/model/calibration", 404)
    assert "clv fitter" in problem["detail"]
    groups = (
        Group(customers=900, expected=40.0, deviation=6.0, observed=35.0),
        Group(customers=20, expected=40.0, deviation=8.0, observed=62.0),
    )
    judged = Calibration(first=date(2026, 1, 1), last=date(2026, 1, 28), groups=groups)
    topic, key = shop.service.settings.topics.models, calibration_key(PARAMETERS.version)
    await write_document(shop.service.broker, topic, key, judged)
    read = _Text.of(await shown(shop, "/model", "2026-01-28"))
    # The deviations of both together: the root of 36 + 64.
    assert "expected 80 ± 10 purchases of those who were customers before; 97 came" in read
    assert re.search(r" 1 900 0.044 40 ± 6 35 .*2 20 2 40 ± 8 62 ", read)
    said, _ = await shop.get("/v1/model/calibration")
    assert said == {"version": PARAMETERS.version, **judged.model_dump(mode="json")}


async def test_without_customers_it_says_what_to_do(tmp_path):
    async with cluster(tmp_path) as service:
        await service.start_worker()
        async with front(service) as running:
            for path, words in (
                ("/", "No customers yet"),
                ("/customers", "There are no customers yet"),
                ("/changes", "No change fits"),
                ("/flows", "Nobody changed segment"),
            ):
                read, _ = await page(running, path)
                assert words in read.text


async def test_the_list_of_who_is_due_is_filtered_sorted_and_exported(shop):
    # A new customer stays new for 90 days.
    async with front(shop.service, now=datetime(2026, 3, 30, tzinfo=UTC)) as running:
        await shown(running, "/due", "21 changes fit")
        listed, _ = await running.get("/v1/due?limit=500&order=lowest")
        read, _ = await page(running, "/due?order=lowest&previous=new&days=5")
        assert "21 changes fit, as of 2026-03-30 00:00:00. " in read.text
        customers = [_id(each) for each in read.links if each.startswith("/customers/")]
        assert customers == [each["customer_id"] for each in listed["changes"]]
        read, _ = await page(running, "/due?days=4")
        assert "None of the changes fits" in read.text
        for query, number in (("", 21), ("?days=4", 0), ("?current=new", 0)):
            async with running.client.get(f"{running.url}/due.csv{query}") as response:
                assert response.content_type == "text/csv"
                text = (await response.text()).removeprefix("\ufeff")
            assert len(list(csv.DictReader(io.StringIO(text)))) == number
        for query in ("days=0", "days=x", "order=newest", "from=x"):
            await page(running, f"/due?{query}", 422)
        customer = _Text.of(await shown(running, "/customers/c03", "Next due on"))
        current = next(e["current"] for e in listed["changes"] if e["customer_id"] == "c03")
        assert f"Next due on 2026-04-04 , if nothing happens: lifecycle becomes {current} ." in (
            customer
        )
    # None of them is due within a week.
    await shown(shop, "/due", "No segment changes within 7 days")


async def test_what_moved_a_value_is_on_the_customers_page_where_workers_say_it(tmp_path):
    async with cluster(tmp_path) as service:
        await service.start_worker(CLV_EXPLAIN_VALUES="true")
        await service.publish([order("anna", "1"), order("ben", "1")])
        await service.settled()
        before = (await service.updates())["anna"]["clv"]
        await service.publish([order("anna", "2", 30, total="90.00")])
        await service.settled()
        async with front(service) as running:
            data, _ = await running.get("/v1/customers/anna")
            moved = data["moved"]
            assert (moved["from"], moved["to"]) == (before, data["clv"])
            read, _ = await page(running, "/customers/anna")
            for words, amount in (
                ("The update before", f"{before:,.2f}"),
                ("events: orders, returns, contacts", f"+{moved['event']:,.2f}"),
                ("time without an event", f"−{-moved['time']:,.2f}"),
                ("This one", f"{data['clv']:,.2f}"),
            ):
                assert f"{words} {amount} " in read.text
            read, _ = await page(running, "/customers/ben")
            assert "There is no earlier value to compare with" in read.text


async def test_where_workers_do_not_say_what_moved_a_value_the_page_says_how(shop):
    read, _ = await page(shop, "/customers/c03")
    assert "Not recorded: workers say it in each update with CLV_EXPLAIN_VALUES=true" in read.text


async def test_while_redis_is_away_a_page_says_since_when_and_recovers(shop):
    redis = connect(shop.service.redis_url)
    pid = (await redis.info("server"))["process_id"]
    await redis.aclose()
    os.kill(pid, signal.SIGSTOP)
    try:
        first, _ = await page(shop, "/", 503)
        again, _ = await page(shop, "/customers/c03", 503)
        since = re.search(r"Redis is away since (\S+ \S+)\.", first.text)[1]
        assert f"Redis is away since {since}." in again.text
    finally:
        os.kill(pid, signal.SIGCONT)
    read, _ = await page(shop, "/")
    assert "Redis is away" not in read.text


async def test_with_tokens_a_browser_gives_one_once(shop):
    async with front(shop.service, (TOKEN,)) as guarded:
        for path in (*PAGES, "/customers.csv", "/due.csv"):
            _, response = await _redirected(guarded, path)
            assert response.headers["Location"].startswith("/login?next=%2F")
        read, _ = await page(guarded, "/login?next=%2Fflows")
        assert "Token" in read.text
        async with guarded.client.post(guarded.url + "/login", data={"token": "x"}) as response:
            assert response.status == 401
        for target, location in (("/flows", "/flows"), ("//evil.example/", "/")):
            async with guarded.client.post(
                f"{guarded.url}/login?next={quote(target, safe='')}",
                data={"token": TOKEN},
                allow_redirects=False,
            ) as response:
                assert (response.status, response.headers["Location"]) == (303, location)
                assert "HttpOnly" in response.headers["Set-Cookie"]
                cookie = {"clv_token": response.cookies["clv_token"].value}
        await page(guarded, "/flows", cookies=cookie)
        async with guarded.client.get(guarded.url + "/v1/ranking", cookies=cookie) as response:
            assert response.status == 200


async def _redirected(running, path):
    async with running.client.get(running.url + path, allow_redirects=False) as response:
        assert response.status == 303
        return None, response


def test_a_pace_is_measured_over_the_window_and_begins_anew_with_the_offsets():
    pacer = Pacer()
    assert pacer.at(100.0, published=50, behind=10) == Pace(None, None, 0.0)
    assert pacer.at(110.0, published=150, behind=0) == Pace(11.0, 10.0, 0.0)
    # Events wait, and none is processed.
    assert pacer.at(120.0, published=170, behind=20).still == 10.0
    assert pacer.at(130.0, published=170, behind=20) == Pace(110 / 30, 4.0, 20.0)
    # The first look is older than the window now, and the second one is not.
    assert pacer.at(145.0, published=205, behind=0) == Pace(55 / 35, 55 / 35, 0.0)
    # Topics that were made anew begin with no offsets.
    assert pacer.at(150.0, published=3, behind=0) == Pace(None, None, 0.0)
    assert pacer.at(160.0, published=13, behind=0) == Pace(1.0, 1.0, 0.0)


def test_a_waterfall_ends_where_its_parts_lead():
    steps = waterfall([("a", 30.0, False), ("b", -40.0, False), ("c", -10.0, True)])
    assert [step.kind for step in steps] == ["gain", "loss", "total"]
    # From -10 to 30: zero lies at a quarter.
    assert [step.bar for step in steps] == [(25.0, 75.0), (0.0, 100.0), (0.0, 25.0)]


def test_a_curve_needs_two_points_in_time():
    assert curve([(5, 1.0)], str) is None
    drawn = curve([(0, 1.0), (10, 0.5)], str, bounds=(0.0, 1.0), marks=[5])
    assert (drawn.line, drawn.marks) == ("M0.0 0.0L600.0 80.0", [300.0])


@pytest.mark.parametrize("low", [-7.3, 0.0, 0.004, 120.0])
@pytest.mark.parametrize("width", [0.0, 0.5, 37.0, 90_000.0])
def test_ranges_of_value_contain_both_ends(low, width):
    found = edges(low, low + width)
    assert found[0] <= low
    assert found[-1] > low + width
    assert 2 <= len(found) <= 16
