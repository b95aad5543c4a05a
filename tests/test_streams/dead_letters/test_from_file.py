"""Letters of an exported file that are sent again: once, and none if the file is not right."""

import json
import random
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from hypothesis import given
from hypothesis import strategies as st

from models.contracts import Reason
from models.contracts.dead_letters import DeadLetter, retried_note
from models.economics import Economics
from streams.cli.console import CommandError
from streams.cli.dead_letters import export_letters
from streams.dead_letters.exported import ExportUnusable, line_of, read_export, writing
from streams.dead_letters.from_file import LettersFromFile
from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import Entry
from tests.servers.kafka import kafka_missing_reason
from tests.test_streams.dead_letters.support import (
    EVERYTHING,
    RATE,
    clv,
    kill_once_noted,
    letter_of,
    letters_at,
    listed,
    order,
    refused_headers,
    retried,
    start,
)
from tests.test_streams.service.cluster import Cluster, cluster

MISSING = kafka_missing_reason()


def refused(order_id: str, partition: int = 0, **headers):
    """A record of the dead letters' topic: an order that would be accepted now."""
    event = order("c1", order_id)
    offset = int(order_id)
    return partition, event.key, event.value, refused_headers(
        Reason.NO_EXCHANGE_RATE, topic="{orders}", partition=partition, offset=offset, **headers
    )  # fmt: skip


async def exported(service: Cluster, path: Path, *, everything: bool = False) -> list[dict]:
    """Export all letters; returns the lines."""
    await export_letters(service.settings, EVERYTHING, path, everything)
    with path.open("rb") as file:
        return [json.loads(line) for line in file]


def write(path: Path, *documents: dict) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in documents))
    return path


async def orders(service: Cluster) -> list:
    return await service.records(service.settings.topics.orders)


async def delete_before(service: Cluster, offsets: dict[TopicPartition, int]) -> None:
    admin = AIOKafkaAdminClient(**service.broker.client_options())
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(to) for tp, to in offsets.items()})
    finally:
        await admin.close()


async def test_a_retry_from_a_file_that_is_killed_and_run_again_counts_every_event_once(
    tmp_path: Path, monkeypatch
):
    number, customers = 3_000, 150
    path = tmp_path / "letters.jsonl.gz"
    async with cluster(tmp_path, economics=Economics(currency="EUR")) as service:
        first = await service.start_worker()
        await service.publish(order(f"c{n % customers}", f"o{n}", "GBP") for n in range(number))
        await service.settled()
        assert await first.stop() == 0
        status, _, said = await clv(service, "export", str(path))
        assert (status, said) == (0, f"{number} letters written to {path}\n")
        monkeypatch.setenv("CLV_ECONOMICS__EXCHANGE_RATES", '{"GBP": "1.25"}')

        command = await start(service, "retry", "--from", str(path))
        await kill_once_noted(service, command)
        left = (await listed(service))["letters_found"]
        assert 0 < left < number

        status, _, said = await clv(service, "retry", "--from", str(path))
        assert status == 0
        assert set(said.strip().split(", ")) == {
            f"{number - left} retried before", f"{left} sent",
        }  # fmt: skip
        again = await retried(service, source=path, GBP=RATE)
        assert again["outcomes"] == {"retried before": number}
        assert (await listed(service))["letters_found"] == 0
        await service.start_worker()
        await service.settled()
        updates = await service.updates()
    assert len(updates) == customers
    assert {u["totals"]["orders"] for u in updates.values()} == {number // customers}
    assert {u["totals"]["gross"] for u in updates.values()} == {50 * number // customers}


@pytest.mark.kafka
@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
async def test_letters_that_were_deleted_since_are_sent_from_the_file_and_noted(tmp_path: Path):
    raw = [("h", bytes(range(256))), ("t", b"text"), ("t", b"")]
    records = [refused("1", headers=raw), refused("2", headers=raw), refused("3", 1)]
    async with letters_at(tmp_path, *records, broker="kafka") as service:
        topic = service.settings.topics.dead_letters
        assert len(await exported(service, path := tmp_path / "letters.jsonl")) == 3
        await delete_before(service, {TopicPartition(topic, 0): 1, TopicPartition(topic, 1): 1})
        assert (await listed(service))["letters_found"] == 1
        assert (await retried(service, source=path))["outcomes"] == {"sent": 3}
        assert (await retried(service, source=path))["outcomes"] == {"retried before": 3}
        sent = {record.value: record for record in await orders(service)}
    assert len(sent) == 3
    for (_, key, value, _), headers, where in zip(
        records, (raw, raw, []), ("[0]@0", "[0]@1", "[1]@0"), strict=True
    ):
        assert sent[value].key == key
        source = ("clv.retried-from", f"{topic}{where}".encode())
        assert list(sent[value].headers) == [*headers, source]


async def test_what_is_asked_for_is_sent_and_a_line_that_comes_twice_is_sent_once(tmp_path: Path):
    wrong = order("c1", "4", currency="EURO")
    bad = refused_headers(Reason.INVALID_FIELD, topic="{orders}", offset=4)
    records = [refused("1"), refused("2"), refused("3"), (0, wrong.key, wrong.value, bad)]
    async with letters_at(tmp_path, *records) as service:
        lines = await exported(service, path := tmp_path / "letters.jsonl")
        assert len(lines) == 4
        named = await retried(service, "0/1", source=path)
        assert [each["id"] for each in named["letters"]] == ["0/1"]
        assert named["outcomes"] == {"sent": 1}
        with pytest.raises(CommandError, match=r"no such letters.*0/7"):
            await retried(service, "0/7", source=path)
        some = write(tmp_path / "some.jsonl", *lines[:1], *lines[:1])
        assert (await retried(service, source=some, dry=True))["outcomes"] == {"would be sent": 1}
        assert len(await orders(service)) == 1
        assert (await retried(service, source=some))["outcomes"] == {"sent": 1}
        rest = await retried(service, source=path)
        assert rest["outcomes"] == {"retried before": 2, "sent": 1, "refused": 1}
        status, printed, said = await clv(
            service, "retry", "--from", str(path), "--reason", "invalid-field", "--set",
            "data.currency=EUR",
        )  # fmt: skip
        assert (status, said) == (0, "1 sent\n")
        assert "0/3  invalid-field  sent to" in printed
        sent = await orders(service)
    assert sorted(json.loads(record.value)["data"]["order_id"] for record in sent) == list("1234")
    assert json.loads(sent[-1].value)["data"]["currency"] == "EUR"


async def test_nothing_is_sent_of_a_file_that_does_not_fit_the_topic(tmp_path: Path):
    records = [refused("1"), refused("2"), (0, b"", None, retried_note(0, 0))]
    async with letters_at(tmp_path, *records) as service:
        topic = service.settings.topics.dead_letters
        first, second = await exported(service, path := tmp_path / "all.jsonl", everything=True)
        assert first["retried"]
        assert not second["retried"]

        async def refuses(changed: dict | list[dict], words: str) -> None:
            changed = changed if isinstance(changed, list) else [changed]
            path = write(tmp_path / "changed.jsonl", second, *changed)
            with pytest.raises(CommandError, match=f"changed.jsonl, line 2: .*{words}.*; nothing"):
                await retried(service, source=path, force=True)

        await refuses(second | {"value": {"text": "{}"}}, "differs from line 1")
        await refuses(first | {"value": {"text": "{}"}}, "another letter is at .* use --set")
        await refuses(first | {"headers": []} | {"key": None}, "another letter is at")
        await refuses(first | {"letter": "other[0]@0"}, "topic other, .* CLV_TOPICS__DEAD_LETTERS")
        await refuses(first | {"letter": f"{topic}[99]@0"}, "has 4 partitions")
        await refuses(first | {"letter": f"{topic}[0]@3"}, "topic ends before .*publishers send")
        await refuses(first | {"letter": f"{topic}[1]@0"}, "topic ends before")
        await refuses(first | {"letter": f"{topic}[0]@2"}, "there is no letter at")
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        status, printed, said = await clv(service, "retry", "--from", str(path))
        assert (status, printed) == (1, "")
        assert "all.jsonl, line 2: is cut off" in said
        assert said.rstrip().endswith("nothing was sent")
        status, _, said = await clv(service, "retry", "--from", str(tmp_path / "none.jsonl"))
        assert status == 1
        assert "none.jsonl" in said
        assert await orders(service) == []


async def test_a_file_that_changes_while_it_is_read_ends_the_retry_with_what_was_done(
    tmp_path: Path, monkeypatch
):
    async with letters_at(tmp_path, refused("1"), refused("2")) as service:
        lines = await exported(service, path := tmp_path / "letters.jsonl")
        checked = LettersFromFile.checked

        async def then_changed(*given) -> LettersFromFile:
            file = await checked(*given)
            write(path, lines[0], lines[1] | {"value": {"text": "{}"}})
            return file

        monkeypatch.setattr(LettersFromFile, "checked", then_changed)
        with pytest.raises(CommandError, match=r"line 2: .*was changed while.*; nothing was sent"):
            await retried(service, source=path)
        assert await orders(service) == []


LINE = line_of(Entry(letter_of({"id": "é\n"}, key=b"\xff"), retried=False))


def changed(**fields) -> str:
    return json.dumps(json.loads(LINE) | fields) + "\n"


def without(field: str) -> str:
    return json.dumps({k: v for k, v in json.loads(LINE).items() if k != field}) + "\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LINE[:-1], None),
        (LINE[:-2], "line 2: is cut off"),
        (LINE[:1], "line 2: is cut off"),
        (LINE[:80] + "\n", "line 2: is damaged: Invalid JSON"),
        (LINE[:80] + LINE, "line 2: is "),
        ("null\n", "line 2: is no exported letter: the line"),
        ('{"customer_id": "c1", "total": 5}\n', "line 2: is no exported letter: letter: Field"),
        (without("headers"), "line 2: is no exported letter: headers: Field required"),
        (changed(letter="0/17"), "line 2: is no exported letter: '0/17' is not topic"),
        (changed(**{"from": "orders"}), "line 2: is no exported letter: 'orders' is not topic"),
        (changed(time=3), "line 2: is no exported letter: time: "),
        (changed(key={"base64": "a"}), "line 2: is no exported letter: its base64 cannot be read"),
        (changed(key={"base64": "!!!!"}), "its base64 cannot be read"),
        (changed(value={}), 'line 2: is no exported letter: neither {"text"'),
        (changed(value={"text": "a", "base64": ""}), 'neither {"text"'),
        (changed(value={"text": "\ud800"}), "line 2: is damaged"),
        (changed(cut_from=-1), "line 2: is no exported letter: cut_from"),
    ],
)
def test_a_line_that_is_no_exported_letter_is_told_from_one_that_is_cut_off(
    tmp_path: Path, content: str, words: str | None
):
    path = tmp_path / "letters.jsonl"
    path.write_text(LINE + content)
    if words is None:
        assert [line.number for line in read_export(path)] == [1, 2]
        return
    with pytest.raises(ExportUnusable) as error:
        list(read_export(path))
    assert words in str(error.value)
    assert str(error.value).startswith(f"{path}, line 2: ")
    assert "export again" in str(error.value)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-9], "letters.jsonl.gz, line 200: the file ends after it"),
        (lambda whole: whole[: len(whole) // 2], ": the file ends after it"),
        (lambda whole: whole[:-8] + bytes(8), "line 200: the file is damaged after it: CRC"),
        (lambda whole: whole[:40] + bytes(9) + whole[49:], ": the file is damaged after it: "),
        (lambda _: b"", "is no gzip file"),
        (lambda _: b"PK\3\4", "is no gzip file"),
        (lambda _: b"\xff\xfe\n", "is no gzip file"),
    ],
)
def test_a_compressed_file_that_is_cut_off_or_damaged_is_told(tmp_path: Path, damage, words: str):
    path = tmp_path / "letters.jsonl.gz"
    dice = random.Random(1)
    with writing(path) as file:
        for number in range(200):
            letter = letter_of({"id": number, "more": dice.random()})
            file.write(line_of(Entry(letter, retried=False)))
    assert len(list(read_export(path))) == 200
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ExportUnusable) as error:
        list(read_export(path))
    assert words in str(error.value)


def test_bytes_that_are_no_text_are_damage_and_no_traceback(tmp_path: Path):
    path = tmp_path / "letters.jsonl"
    path.write_bytes(LINE.encode() + b'{"letter": "\xff"}\n')
    with pytest.raises(ExportUnusable, match="line 2: is damaged"):
        list(read_export(path))


contents = st.none() | st.binary(max_size=30) | st.text(max_size=30).map(str.encode)


@given(
    key=contents,
    value=contents,
    headers=st.lists(st.tuples(st.text(max_size=5), contents), max_size=4),
    timestamp=st.integers(0, 4_000_000_000_000),
    cut_from=st.none() | st.integers(0, 2**40),
    told=st.none() | st.tuples(st.text(max_size=9), st.text(max_size=9), st.integers(0, 99)),
    was_retried=st.booleans(),
)
def test_every_letter_is_read_back_as_it_was(
    tmp_path_factory, key, value, headers, timestamp, cut_from, told, was_retried
):
    refusal = told and DeadLetter(
        reason="x", message=told[0], field=told[1], topic="t-[1]@2", partition=told[2], offset=7
    )
    letter = Letter("d", 3, 17, timestamp, key, value, headers, refusal, cut_from)
    path = tmp_path_factory.mktemp("letters") / "one.jsonl"
    with writing(path) as file:
        file.write(line_of(Entry(letter, was_retried)))
    [(number, entry)] = read_export(path)
    assert number == 1
    assert entry == Entry(letter, was_retried)
    assert entry.letter.content() == letter.content()


@pytest.mark.parametrize("name", ["letters.jsonl", "letters.jsonl.gz"])
def test_an_export_that_fails_leaves_the_former_file_and_no_other(tmp_path: Path, name: str):
    path = tmp_path / name
    with writing(path) as file:
        file.write(LINE)
    whole = path.read_bytes()

    def fail() -> None:
        with writing(path) as file:
            file.write(LINE)
            raise ConnectionError("the broker is gone")

    with pytest.raises(ConnectionError):
        fail()
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]
