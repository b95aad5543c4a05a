"""Sending dead letters again from the page and over the API: who may, and what becomes of them."""

import asyncio
import re
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from streams.serving.bodies import LARGEST
from streams.serving.retrying import LETTERS
from streams.settings import Settings
from tests.test_streams.dead_letters.support import configured, order
from tests.test_streams.service.cluster import cluster

from .conftest import front
from .test_pages import shown

READER, WRITER = "a token that only reads", "a token that also writes"
RETRY = "/v1/dead-letters/retry"
AS_WRITER = {"Authorization": f"Bearer {WRITER}"}


@pytest.fixture
async def refused(tmp_path):
    """A service that has refused three orders in a currency without a rate."""
    async with cluster(tmp_path) as service:
        await service.start_worker()
        await service.publish(order(f"c{n}", f"o{n}", "GBP") for n in range(3))
        await service.settled()
        yield service


def with_rate(service) -> Settings:
    return configured(service, GBP=Decimal("1.25"))


async def asked(running, letters, status=200, **given):
    async with running.client.post(
        running.url + RETRY, json={"letters": letters}, **given
    ) as response:
        document = await response.json(content_type=None)
        assert response.status == status, document
        return document


async def ids(running):
    """The ids of the letters; the first look has them, since all was refused before it."""
    found, _ = await running.get("/v1/operations", **AS_WRITER)
    assert found["dead_letters"] == {"no-exchange-rate": 3}
    return sorted(each["id"] for each in found["newest"])


async def sent(service):
    """The orders that were sent again."""
    topic = service.settings.topics.orders
    return sorted(
        record.key.decode()
        for record in await service.records(topic)
        if any(name == "clv.retried-from" for name, _ in record.headers)
    )


class _Form(HTMLParser):
    """The hidden fields of the form, and the values of its buttons."""

    def __init__(self, html):
        super().__init__()
        self.secret, self.buttons = "", []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if named.get("name") == "secret":
            self.secret = named["value"]
        if tag == "button" and named.get("name") == "letter":
            self.buttons.append(named["value"])


async def test_without_tokens_to_write_nobody_may(refused):
    async with front(refused, settings=with_rate(refused)) as running:
        letters = await ids(running)
        for headers in ({}, AS_WRITER):
            said = await asked(running, letters, 403, headers=headers)
            assert "CLV_SERVE__WRITE_TOKENS" in said["detail"]
            assert "clv dead-letters retry" in said["detail"]
        html = await shown(running, "/operations", "no-exchange-rate")
        assert _Form(html).buttons == []
        assert "a token that may write" not in html
        async with running.client.post(
            running.url + "/operations/retry", data={"letter": letters[0], "secret": ""}
        ) as response:
            assert response.status == 403
    assert await sent(refused) == []


async def test_only_the_header_with_a_token_that_may_write_counts(refused):
    async with front(refused, (READER,), (WRITER,), with_rate(refused)) as running:
        letters = await ids(running)
        for status, given in (
            (401, {}),
            (403, {"headers": {"Authorization": f"Bearer {READER}"}}),
            # A browser would send this one where a page of somebody else makes it.
            (403, {"cookies": {"clv_token": WRITER}}),
        ):
            said = await asked(running, letters, status, **given)
            assert "Authorization: Bearer TOKEN" in said["detail"]
        many = b'{"letters": [%b]}' % b",".join([b'"0/1"'] * (LETTERS + 1))
        for body, where in (
            (b"", "the body"), (b"[", "the body"), (b"{}", "letters"), (many, "letters"),
            (b'{"letters": []}', "letters"), (b'{"letters": ["x"]}', "letters.0"),
            (b'{"letters": [1]}', "letters.0"), (b'{"letters": ["0/1"], "force": true}', "force"),
        ):  # fmt: skip
            async with running.client.post(
                running.url + RETRY, data=body, headers=AS_WRITER
            ) as response:
                problem = await response.json(content_type=None)
                assert (response.status, problem["detail"].split(": ")[0]) == (422, where)
        async with running.client.post(
            running.url + RETRY, data=b" " * (LARGEST + 1), headers=AS_WRITER
        ) as response:
            assert response.status == 413
        assert await sent(refused) == []
        # Whoever may write may read.
        await running.get("/v1/ranking", **AS_WRITER)


async def test_letters_are_sent_once_and_the_worker_counts_them(refused):
    (worker,) = refused.workers
    await worker.stop()
    async with front(refused, (), (WRITER,), with_rate(refused)) as running:
        first, second, third = await ids(running)
        both = await asyncio.gather(
            *(asked(running, [first, second], headers=AS_WRITER) for _ in range(2))
        )
        outcomes = sorted(
            (each["id"], each["outcome"]) for answer in both for each in answer["letters"]
        )
        assert outcomes == [
            (letter, outcome)
            for letter in (first, second)
            for outcome in ("retried before", "sent")
        ]
        orders = refused.settings.topics.orders
        assert all(
            each["to"].startswith(f"{orders}[")
            for answer in both for each in answer["letters"] if each["outcome"] == "sent"
        )  # fmt: skip
        gone = await asked(running, [third, "0/99999"], headers=AS_WRITER)
        assert (gone["not_found"], gone["letters"][0]["outcome"]) == (["0/99999"], "sent")
        # The page follows at once, and not only when it looks again by itself.
        await shown(running, "/operations", "Nothing was refused lately")
    await refused.start_worker(CLV_ECONOMICS__EXCHANGE_RATES='{"GBP": "1.25"}')
    await refused.settled()
    totals = {name: each["totals"] for name, each in (await refused.updates()).items()}
    assert {name: (each["orders"], each["gross"]) for name, each in totals.items()} == {
        f"c{n}": (1, 50.0) for n in range(3)
    }


async def test_what_would_be_refused_again_is_not_sent(refused):
    async with front(refused, (), (WRITER,)) as running:
        letters = await ids(running)
        told = await asked(running, letters, headers=AS_WRITER)
        assert {each["outcome"] for each in told["letters"]} == {"refused"}
        assert all("GBP" in each["why"] for each in told["letters"])
    assert await sent(refused) == []


async def test_the_page_has_buttons_for_who_may_write_and_no_other_page_can_press_them(refused):
    async with front(refused, (READER,), (WRITER,), with_rate(refused)) as running:
        reading, writing = {"clv_token": READER}, {"clv_token": WRITER}
        letters = await ids(running)
        html = await _page(running, reading)
        assert _Form(html).buttons == []
        assert "/login?next=%2Foperations" in html
        form = _Form(await _page(running, writing))
        assert sorted(form.buttons[0].split()) == letters
        assert sorted(form.buttons[1:]) == letters
        for cookies, secret in (
            ({}, form.secret),
            (reading, form.secret),
            (writing, ""),
            (writing, form.secret[::-1]),
            (writing, WRITER),
        ):
            async with running.client.post(
                running.url + "/operations/retry", cookies=cookies, allow_redirects=False,
                data={"letter": letters[0], "secret": secret},
            ) as response:  # fmt: skip
                assert response.status == (403 if cookies else 303)
        assert await sent(refused) == []
        async with running.client.post(
            running.url + "/operations/retry", cookies=writing,
            data={"letter": form.buttons[0], "secret": form.secret},
        ) as response:  # fmt: skip
            html = await response.text()
            assert response.status == 200, html
        orders = re.escape(refused.settings.topics.orders)
        assert len(re.findall(rf">sent</td><td[^>]*>{orders}\[\d\]", html)) == len(letters)
        assert WRITER not in html
        async with running.client.post(
            running.url + "/operations/retry", cookies=writing,
            data={"letter": "0/99999", "secret": form.secret},
        ) as response:  # fmt: skip
            assert "Not found, or too far back in the topic: 0/99999" in await response.text()
    assert await sent(refused) == ["c0", "c1", "c2"]


async def test_a_token_that_may_write_is_taken_where_everybody_may_read(refused):
    async with front(refused, (), (WRITER,), with_rate(refused)) as running:
        async with running.client.post(
            running.url + "/login", data={"token": "guessed"}, allow_redirects=False
        ) as response:
            assert response.status == 401
        async with running.client.post(
            running.url + "/login?next=%2Foperations", data={"token": WRITER}
        ) as response:
            assert response.url.path == "/operations"
        assert _Form(await _page(running, {"clv_token": WRITER})).buttons


async def _page(running, cookies):
    async with asyncio.timeout(30):
        while True:
            async with running.client.get(running.url + "/operations", cookies=cookies) as response:
                if "no-exchange-rate" in (html := await response.text()):
                    return html
            await asyncio.sleep(0.1)
