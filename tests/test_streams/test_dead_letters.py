"""Dead letters: what is listed, shown and exported, and what becomes of those sent again."""

import asyncio
import base64
import gzip
import json
import os
import signal
import sys
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from models.contracts import Reason, Refused
from models.contracts.dead_letters import (
    CUT,
    DeadLetter,
    dead_letter_headers,
    noted,
    retried_note,
    split_headers,
)
from models.documents import CONTENT_TYPE
from models.economics import Economics
from streams.cli.console import CommandError
from streams.cli.dead_letters import found_letters, letter_document, send_again
from streams.cli.dead_letters_options import selection
from streams.dead_letters import (
    Correction,
    CorrectionFailed,
    DeadLetters,
    Outcome,
    Retry,
    Selection,
    corrected,
    glance,
    read_letter,
)
from streams.dead_letters import retry as retrying
from streams.dead_letters.documents import printable
from streams.dead_letters.selection import parse_place
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.settings import Settings
from streams.topics import home_partition
from tests.test_streams.service.cluster import ROOT, Cluster, cluster

RATE = Decimal("1.25")
TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)


def order(customer, order_id, currency="EUR", **changes):
    data = {
        "order_id": order_id, "customer_id": customer, "placed_at": TIME, "currency": currency,
        "total": "40.00",
    } | changes  # fmt: skip
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"e-{order_id}", time=TIME,
        data={name: value for name, value in data.items() if value is not None},
        customer_id=customer,
    )  # fmt: skip


def broken(value, key=b"c1"):
    return OutgoingEvent("orders", key, value, [CONTENT_TYPE], TIME)


async def clv(service: Cluster, *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end: status, stdout, stderr."""
    process = await start(service, *arguments)
    async with asyncio.timeout(60):
        printed, said = await process.communicate()
    assert b"Traceback" not in said, said.decode()
    assert process.returncode is not None
    return process.returncode, printed.decode(), said.decode()


async def start(service: Cluster, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.cli", "dead-letters", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=ROOT, env=os.environ | service.environment(),
    )  # fmt: skip


EVERYTHING = Selection()


def configured(service: Cluster, **rates: Decimal) -> Settings:
    """The service's settings, with other exchange rates."""
    economics = service.settings.economics.model_copy(update={"exchange_rates": rates})
    return service.settings.model_copy(update={"economics": economics})


async def listed(service: Cluster, chosen=EVERYTHING, *, everything=False) -> dict:
    return await found_letters(service.settings, chosen, 20, everything)


async def shown(service: Cluster, letter: str, **rates: Decimal) -> dict:
    place = parse_place(letter, service.settings.topics.dead_letters)
    document, event = await letter_document(configured(service, **rates), place)
    return document | {"event": event}


async def retried(service: Cluster, *ids: str, fields=(), dry=False, force=False, **rates) -> dict:
    places = frozenset(parse_place(each, service.settings.topics.dead_letters) for each in ids)
    corrections = [Correction.parse(field) for field in fields]
    told = await send_again(
        configured(service, **rates), Selection(places=places), corrections, dry=dry, force=force
    )
    return told.document()


class TestService:
    async def test_a_rate_is_added_and_what_was_refused_for_it_counts_once(
        self, tmp_path: Path, monkeypatch
    ):
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            first = await service.start_worker()
            await service.publish(
                [order("c1", "o1", "GBP"), order("c1", "o2"), order("c2", "o3", "GBP")]
            )
            await service.settled()

            status, printed, said = await clv(service, "list", "--json")
            assert (status, said) == (0, "")
            found = json.loads(printed)
            letters = {each["customer"]: each for each in found.pop("letters")}
            assert found == {
                "reasons": {"no-exchange-rate": 2}, "letters_found": 2, "retried": 0,
                "written_twice": 0,
            }  # fmt: skip
            letter = letters["c1"]
            assert datetime.fromisoformat(letter["time"]) > TIME
            home = home_partition(b"c1", service.partitions)
            assert letter["id"].startswith(f"{home}/")
            assert {**letter, "id": None, "time": None, "message": None} == {
                "id": None, "time": None, "reason": "no-exchange-rate", "field": "data.currency",
                "message": None, "customer": "c1", "type": "order.placed", "event_id": "e-o1",
                "from": f"{topics.orders}[{home}]@0", "retried": False,
            }  # fmt: skip
            assert "exchange_rates" in letter["message"]
            status, printed, _ = await clv(service, "list")
            assert status == 0
            assert "2 dead letters" in printed
            [line] = [line for line in printed.splitlines() if line.startswith(letter["id"] + " ")]
            assert line.split()[2:6] == ["no-exchange-rate", "c1", "order.placed", "e-o1"]

            assert (await shown(service, letter["id"]))["now"].startswith("would be refused: no-")
            assert (await retried(service))["outcomes"] == {"refused": 2}
            assert len(await service.records(topics.orders)) == 3

            assert await first.stop() == 0
            monkeypatch.setenv("CLV_ECONOMICS__EXCHANGE_RATES", '{"GBP": "1.25"}')
            await service.start_worker()
            now = (await shown(service, letter["id"], GBP=RATE))["now"]
            assert now == "would be accepted now"
            dry = await retried(service, dry=True, GBP=RATE)
            assert dry["outcomes"] == {"would be sent": 2}
            assert len(await service.records(topics.orders)) == 3
            status, printed, said = await clv(service, "retry", "--reason", "no-exchange-rate")
            assert (status, said) == (0, "2 sent\n")
            assert f"{letter['id']}  no-exchange-rate  sent to {topics.orders}[{home}]" in printed
            await service.settled()
            updates = await service.updates()
            assert {c: u["totals"]["gross"] for c, u in updates.items()} == {"c1": 90, "c2": 50}
            assert (await listed(service))["letters_found"] == 0
            everything = await listed(service, everything=True)
            assert (everything["letters_found"], everything["retried"]) == (2, 2)
            assert all(each["retried"] for each in everything["letters"])

            assert (await retried(service, GBP=RATE))["outcomes"] == {}
            again = await retried(service, letter["id"], GBP=RATE)
            assert again["outcomes"] == {"retried before": 1}
            again = await retried(service, letter["id"], force=True, GBP=RATE)
            assert again["outcomes"] == {"sent": 1}
            await service.settled()
            assert (await service.updates())["c1"]["totals"]["orders"] == 2
            records = await service.records(topics.orders)
        assert len(records) == 6
        assert len({(record.key, record.value) for record in records}) == 3
        resent = [dict(r.headers) for r in records if len(r.headers) > 1]
        assert len(resent) == 3
        assert all(headers["content-type"] == CONTENT_TYPE[1] for headers in resent)
        assert {headers["clv.retried-from"].decode() for headers in resent} == {
            f"{topics.dead_letters}[{each['id'].replace('/', ']@')}" for each in letters.values()
        }

    async def test_fields_are_corrected_and_a_chain_of_refusals_is_told(self, tmp_path: Path):
        events = [
            order(None, "o1"),
            order("c2", "o2", total=40.0),
            broken(b"\x1b[31m{no json"),
            order("c4", "o4", currency="EURO"),
        ]
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            await service.start_worker()
            await service.publish(events)
            await service.settled()
            found = await listed(service)
            ids = {each["reason"] + str(each["event_id"]): each["id"] for each in found["letters"]}
            assert found["reasons"] == {
                "invalid-field": 2, "missing-customer": 1, "not-json": 1,
            }  # fmt: skip
            nameless, number = ids["missing-customere-o1"], ids["invalid-fielde-o2"]
            garbage, wrong = ids["not-jsonNone"], ids["invalid-fielde-o4"]

            assert (await retried(service, nameless, fields=["data.customer_id=c1"]))[
                "outcomes"
            ] == {"sent": 1}
            assert (await retried(service, number, fields=["data.total=40.00"]))["outcomes"] == {
                "sent": 1
            }
            failed = await retried(service, garbage, fields=["data.total=40.00"])
            assert failed["outcomes"] == {"impossible": 1}
            assert "structured" in failed["letters"][0]["why"]
            status, printed, _ = await clv(service, "show", garbage)
            assert status == 0
            assert "\x1b" not in printed
            assert r"\x1b[31m{no json" in printed

            assert (await retried(service, wrong, fields=["data.currency=EUROS"], force=True))[
                "outcomes"
            ] == {"sent": 1}
            await service.settled()
            updates = await service.updates()
            assert {c: u["totals"]["gross"] for c, u in updates.items()} == {"c1": 40, "c2": 40}
            after = await shown(service, wrong)
            assert after["retried"] is True
            [newer] = after["refused_again_as"]
            chained = await shown(service, newer)
            assert chained["retried_from"] == [after["letter"]]
            assert chained["corrected"] == ["data.currency"]
            assert chained["event"]["data"]["currency"] == "EUROS"
            assert (await retried(service, newer, fields=["data.currency=EUR"]))["outcomes"] == {
                "sent": 1
            }
            await service.settled()
            assert (await service.updates())["c4"]["totals"]["orders"] == 1
            records = await service.records(topics.orders)
        last = [r for r in records if b'"o4"' in r.value][-1]
        assert [v.decode() for name, v in last.headers if name == "clv.retried-from"] == [
            after["letter"], chained["letter"],
        ]  # fmt: skip

    async def test_a_retry_that_is_killed_and_run_again_counts_every_event_once(
        self, tmp_path: Path, monkeypatch
    ):
        number, customers = 5_000, 250
        async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
            topics = service.settings.topics
            first = await service.start_worker()
            await service.publish(order(f"c{n % customers}", f"o{n}", "GBP") for n in range(number))
            await service.settled()
            assert await first.stop() == 0
            monkeypatch.setenv("CLV_ECONOMICS__EXCHANGE_RATES", '{"GBP": "1.25"}')

            command = await start(service, "retry", "--all")
            await until_noted(service)
            command.send_signal(signal.SIGKILL)
            await command.communicate()
            assert command.returncode == -signal.SIGKILL
            half = await listed(service)
            assert 0 < half["letters_found"] < number
            assert half["letters_found"] + half["retried"] == number

            rest = await retried(service, GBP=RATE)
            assert rest["outcomes"] == {"sent": half["letters_found"]}
            c0 = Selection(customer="c0")
            twice = await send_again(configured(service, GBP=RATE), c0, [], dry=False, force=True)
            assert twice.outcomes == {Outcome.SENT: number // customers}
            await service.start_worker()
            await service.settled()
            updates = await service.updates()
            letters = await listed(service)
            sent = len(await service.records(topics.orders)) - number
        assert sent >= number + number // customers
        assert letters["letters_found"] == 0
        assert len(updates) == customers
        for update in updates.values():
            assert update["totals"]["orders"] == number // customers
            assert update["totals"]["gross"] == 50 * number // customers


async def until_noted(service: Cluster) -> None:
    """Wait for the first note that a letter was sent again."""
    consumer = AIOKafkaConsumer(
        **service.broker.client_options(), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        topic = service.settings.topics.dead_letters
        consumer.assign([TopicPartition(topic, n) for n in range(service.partitions)])
        async with asyncio.timeout(30):
            while True:
                for records in (await consumer.getmany(timeout_ms=10)).values():
                    if any(noted(record.headers) for record in records):
                        return
    finally:
        await consumer.stop()


def refused_headers(reason=Reason.NOT_JSON, headers=(), topic="shop.orders", partition=0, offset=0):
    refused = Refused(reason, "data.total", "data.total is 1; allowed: text")
    return dead_letter_headers(refused, headers, topic, partition, offset)


@asynccontextmanager
async def letters_at(tmp_path: Path, *records):
    """A broker with these records (partition, key, value, headers) in the dead letters' topic.

    The header values "{orders}", "{clock}" and so on stand for the names of these topics.
    """
    async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
        names = service.settings.topics.model_dump()
        meant = {f"{{{name}}}".encode(): topic.encode() for name, topic in names.items()}
        async with AIOKafkaProducer(**service.broker.client_options()) as producer:
            for partition, key, value, headers in records:
                named = [(name, meant.get(content, content)) for name, content in headers]
                await producer.send_and_wait(
                    names["dead_letters"], value, key=key, partition=partition, headers=named
                )
        yield service


async def entries(service: Cluster):
    letters = DeadLetters(service.broker, service.settings.topics.dead_letters)
    await letters.prepare()
    return [entry async for entry in letters.entries()], letters


async def send(service: Cluster, **options):
    letters = DeadLetters(service.broker, service.settings.topics.dead_letters)
    counts = await letters.prepare()
    told = []
    async with Retry(service.broker, service.settings, counts, **options) as retry:
        async for entry in letters.entries():
            told += await retry.add(entry)
        told += await retry.finish()
    return told


class TestTopic:
    async def test_what_a_killed_worker_wrote_twice_is_one_letter(self, tmp_path: Path):
        headers = refused_headers(topic="{orders}", offset=7)
        other = refused_headers(topic="{orders}", offset=8)
        records = [(1, b"c1", b"x", headers), (1, b"c1", b"x", other), (1, b"c1", b"x", headers)]
        async with letters_at(tmp_path, *records) as service:
            found, letters = await entries(service)
            assert [entry.letter.id for entry in found] == ["1/0", "1/1"]
            assert letters.repeats == 1

    async def test_a_letter_is_open_until_the_note_and_is_sent_again_if_none_was_written(
        self, tmp_path: Path, monkeypatch
    ):
        event = order("c1", "o1")
        records = [(2, event.key, event.value, refused_headers(topic="{orders}", partition=2))]
        async with letters_at(tmp_path, *records) as service:
            with monkeypatch.context() as patched:

                def die(*_place):
                    raise KeyboardInterrupt("killed before the note")

                patched.setattr(retrying, "retried_note", die)
                with pytest.raises(KeyboardInterrupt):
                    await send(service)
            assert len(await service.records(service.settings.topics.orders)) == 1
            assert [entry.retried for entry in (await entries(service))[0]] == [False]
            await send(service)
            assert [entry.retried for entry in (await entries(service))[0]] == [True]
            assert len(await service.records(service.settings.topics.orders)) == 2

    async def test_a_record_goes_to_the_home_of_its_customer_and_a_tick_to_its_partition(
        self, tmp_path: Path
    ):
        nameless = order("c1", "o1")._replace(key=None)
        stray = order("c2", "o2")._replace(key=b"somebody else")
        tick = b'{"as_of": "2026-01-03T10:00:00Z"}'
        kept = [("a", b"1"), ("a", b"\xff"), ("__streams.errors.exception", b"theirs")]
        records = [
            (0, None, nameless.value, refused_headers(topic="{orders}", headers=kept)),
            (0, stray.key, stray.value, refused_headers(topic="{orders}", offset=1)),
            (3, None, tick, refused_headers(topic="{clock}", partition=3)),
            (3, None, tick, refused_headers(topic="{identity}", partition=3)),
            (3, b"k", b"{}", refused_headers(topic="elsewhere")),
            (3, b"k", b"{}", [("content-type", b"text/plain")]),
        ]
        async with letters_at(tmp_path, *records) as service:
            topics = service.settings.topics
            told = await send(service)
            assert [each.outcome for each in told] == [
                Outcome.REFUSED, Outcome.IMPOSSIBLE, Outcome.IMPOSSIBLE,
                Outcome.SENT, Outcome.SENT, Outcome.SENT,
            ]  # fmt: skip
            orders = {record.value: record for record in await service.records(topics.orders)}
            [clock] = await service.records(topics.clock)
            assert await service.records(topics.identity) == []
            forced = await send(service, force=True)
            [identity] = await service.records(topics.identity)
        assert (clock.partition, clock.value) == (3, tick)
        assert (identity.partition, identity.value) == (3, tick)
        assert [each.outcome for each in forced].count(Outcome.IMPOSSIBLE) == 2
        first, second = orders[nameless.value], orders[stray.value]
        assert first.partition == home_partition(b"c1", service.partitions)
        assert second.partition == home_partition(b"c2", service.partitions)
        assert (first.key, second.key) == (None, b"somebody else")
        where = f"{topics.dead_letters}[0]@0".encode()
        assert list(first.headers) == [*kept, ("clv.retried-from", where)]

    async def test_a_letter_that_was_cut_is_never_sent(self, tmp_path: Path):
        headers = [*refused_headers(topic="{orders}"), (CUT, b"5000000")]
        async with letters_at(tmp_path, (0, b"c1", b"xxx", headers)) as service:
            [told] = await send(service, force=True)
            assert await service.records(service.settings.topics.orders) == []
        assert told.outcome is Outcome.IMPOSSIBLE
        assert "first 3 of its 5000000 bytes" in told.why

    async def test_what_was_too_old_is_sent_by_force_only(self, tmp_path: Path):
        event = order("c1", "o1")
        headers = refused_headers(Reason.BEYOND_MEMORY, topic="{orders}")
        async with letters_at(tmp_path, (0, event.key, event.value, headers)) as service:
            [told] = await send(service)
            assert told.outcome is Outcome.REFUSED
            assert "cannot be told" in told.why
            [told] = await send(service, force=True)
            assert told.outcome is Outcome.SENT

    async def test_an_export_holds_every_byte(self, tmp_path: Path):
        raw = bytes(range(256))
        headers = refused_headers(topic="{orders}", offset=5, headers=[("h", raw), ("t", b"text")])
        tick = refused_headers(Reason.FUTURE, topic="{clock}")
        records = [(1, raw, raw, headers), (2, None, b"{}", tick)]
        path = tmp_path / "letters.jsonl.gz"
        async with letters_at(tmp_path, *records) as service:
            status, _, said = await clv(service, "export", str(path), "--reason", "not-json")
            assert (status, said) == (0, f"1 letters written to {path}\n")
            topics = service.settings.topics
            status, _, said = await clv(service, "export", str(tmp_path / "x.csv"))
            assert status == 1
            assert "name a file that ends in .jsonl" in said
        [line] = gzip.decompress(path.read_bytes()).decode().splitlines()
        document = json.loads(line)
        shown_raw = {"base64": base64.b64encode(raw).decode()}
        assert datetime.fromisoformat(document.pop("time")).timestamp() > time.time() - 60
        assert document == {
            "id": "1/0", "letter": f"{topics.dead_letters}[1]@0", "reason": "not-json",
            "field": "data.total", "message": "data.total is 1; allowed: text",
            "customer": raw.decode("utf-8", "backslashreplace"), "type": None, "event_id": None,
            "from": f"{topics.orders}[0]@5", "retried": False, "retried_from": [],
            "corrected": [], "cut_from": None, "key": shown_raw, "value": shown_raw,
            "headers": [
                {"name": "h", "value": shown_raw}, {"name": "t", "value": {"text": "text"}},
            ],
        }  # fmt: skip

    async def test_a_request_that_cannot_be_met_is_refused_in_words(self, tmp_path: Path):
        async with letters_at(tmp_path) as service:
            with pytest.raises(CommandError, match=r"no such letters.*0/99"):
                await retried(service, "0/99")
            with pytest.raises(CommandError, match=r"there is no dead letter .*\[0\]@99"):
                await shown(service, "0/99")
            status, printed, said = await clv(service, "retry")
            assert (status, printed) == (1, "")
            assert "say which" in said
            assert (await listed(service))["letters"] == []


def test_options_that_make_no_sense_are_refused_in_words():
    given = {"reason": None, "topic": None, "customer": None, "since": None}
    for wrong, words in (
        ({"reason": "bad"}, "reasons are empty,"),
        ({"since": "noon"}, "write a date"),
        ({"ids": ["orders"]}, "write partition/offset"),
    ):
        with pytest.raises(CommandError, match=words):
            selection(Settings(), **(given | wrong))
    chosen = selection(Settings(), **(given | {"since": "2026-01-03"}))
    assert chosen.since == datetime(2026, 1, 3, tzinfo=UTC)


class Record:
    topic, partition, offset, timestamp = "clv.dead-letters", 1, 2, 1_000

    def __init__(self, value, headers=None, key=b"k"):
        self.key, self.value = key, value
        self.headers = refused_headers() if headers is None else headers


def letter_of(document, **changes):
    return read_letter(Record(json.dumps(document).encode(), **changes))


class TestLetter:
    def test_headers_of_the_record_are_told_from_those_of_the_refusal(self):
        theirs = [*refused_headers(Reason.BATCH, offset=1), ("x", None)]
        letter = read_letter(Record(b"v", [*theirs, *refused_headers(offset=9)]))
        assert letter.headers == theirs
        assert letter.reason == "not-json"
        assert letter.came_from == "shop.orders[0]@9"

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("clv.retried", b"0/1"), ("more", b"")],
            [("__streams.errors.exception", b"clv.refused.empty")],
            [*refused_headers()[:-1], ("__streams.errors.offset", b"-1")],
        ],
    )
    def test_a_record_that_is_no_letter_is_listed_as_unknown(self, headers):
        letter = read_letter(Record(b"v", headers))
        assert letter.reason == "unknown"
        assert letter.headers == headers

    def test_notes_are_read_back_and_nothing_else_is_a_note(self):
        assert noted(retried_note(3, 17)) == (3, 17)
        for value in (b"", b"3", b"3/", b"a/1", b"-1/2", None):
            assert noted([("clv.retried", value)]) is None
        assert noted([*refused_headers(), ("clv.retried", b"1/2")]) is None

    def test_a_null_header_does_not_keep_a_letter_from_being_read(self):
        split = split_headers([("x", None), *refused_headers(offset=4)])
        assert split is not None
        assert DeadLetter.from_headers([("x", None), *refused_headers(offset=4)]).offset == 4

    def test_a_binary_event_is_described_by_its_headers(self):
        headers = refused_headers(headers=[("ce_type", b"order.placed"), ("CE_ID", b"7")])
        found = glance(letter_of({"customer_id": "c9"}, headers=headers))
        assert (found.customer, found.event_type, found.event_id) == ("c9", "order.placed", "7")
        assert not found.structured

    @pytest.mark.parametrize(
        "value",
        [None, b"", b"\xff", b"[" * 100_000, b'"x"', b"1" * 5_000, b'{"data": 3, "type": 4}'],
    )
    def test_whatever_the_value_is_a_letter_can_be_described(self, value):
        found = glance(read_letter(Record(value)))
        assert (found.customer, found.event_type, found.event_id) == ("k", None, None)

    def test_places_are_read_in_both_forms(self):
        assert parse_place("3/17", "t") == (3, 17)
        assert parse_place("t[3]@17", "t") == (3, 17)
        for text in ("u[3]@17", "3", "3/x", "t[3]"):
            with pytest.raises(ValueError, match=r"write partition|another topic"):
                parse_place(text, "t")

    def test_a_selection_asks_for_everything_it_names(self):
        letter = letter_of({"data": {"customer_id": "c1"}})
        at = datetime.fromtimestamp(1, UTC)
        assert letter in Selection("not-json", "shop.orders", "c1", at, frozenset({(1, 2)}))
        for other in (
            Selection(reason="empty"),
            Selection(topic="shop.support"),
            Selection(customer="k"),
            Selection(since=at.replace(second=2)),
            Selection(places=frozenset({(2, 1)})),
        ):
            assert letter not in other

    def test_what_a_terminal_would_obey_is_escaped(self):
        assert printable("\x1b[2J\u202eé\n\ud800") == r"\x1b[2J\u202eé\n\ud800"
        assert printable(b"\xff1234", 4) == "\\xff… (4 more)"


class TestCorrections:
    @pytest.mark.parametrize(
        ("text", "field", "value"),
        [
            ("data.currency=EUR", "data.currency", "EUR"),
            ("data.total=12", "data.total", "12"),
            ("data.note=a:=b=c", "data.note", "a:=b=c"),
            ("data.score:=9", "data.score", 9),
            ("data.items[0].sku=x", "data.items[0].sku", "x"),
        ],
    )
    def test_fields_and_values_are_read(self, text, field, value):
        assert Correction.parse(text) == (field, value)

    @pytest.mark.parametrize("text", ["", "x", "=1", "a..b=1", "a[x]=1", "a:=", "a:={"])
    def test_what_cannot_be_read_is_refused(self, text):
        with pytest.raises(ValueError, match=r"FIELD=TEXT|is not JSON"):
            Correction.parse(text)

    def test_only_the_named_fields_change(self):
        event = {"id": "é", "data": {"items": [{"sku": "a"}, {"sku": "b"}], "n": 0.1}}
        wanted = [Correction("data.items[1].sku", "c"), Correction("data.customer_id", "c1")]
        value = corrected(letter_of(event), wanted)
        assert json.loads(value) == {
            "id": "é",
            "data": {"items": [{"sku": "a"}, {"sku": "c"}], "n": 0.1, "customer_id": "c1"},
        }

    def test_without_corrections_every_byte_stays(self):
        assert corrected(read_letter(Record(b'{ "a" : 1.0 }')), []) == b'{ "a" : 1.0 }'

    @pytest.mark.parametrize(
        ("field", "document"),
        [
            ("data.items[2]", {"data": {"items": [1]}}),
            ("data.items[0]", {"data": {"items": {}}}),
            ("data.total", {"data": "text"}),
            ("data.a.b", {"data": {"a": 1}}),
            ("data", []),
            ("data.x", {"data": {"n": float("nan")}}),
        ],
    )
    def test_a_field_that_has_no_place_is_refused(self, field, document):
        with pytest.raises(CorrectionFailed):
            corrected(letter_of(document), [Correction(field, "x")])
