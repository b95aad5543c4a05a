"""What is listed, exported and sent again of letters in the topic."""

import base64
import gzip
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.contracts import Reason
from models.contracts.dead_letters import CUT
from streams.cli.console import CommandError
from streams.cli.dead_letters import selection
from streams.dead_letters import retry as retrying
from streams.dead_letters.retry import Outcome
from streams.kafka.partitions import home_partition
from streams.settings import Settings
from tests.test_streams.dead_letters.support import (
    clv,
    entries,
    letters_at,
    listed,
    order,
    refused_headers,
    retried,
    send,
    shown,
)


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

    @pytest.mark.parametrize("reason", [Reason.BEYOND_MEMORY, Reason.POISON])
    async def test_what_only_a_worker_can_judge_is_sent_by_force_only(
        self, tmp_path: Path, reason: Reason
    ):
        event = order("c1", "o1")
        headers = refused_headers(reason, topic="{orders}")
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
            "notice": False,
            "field": "data.total", "message": "data.total is 1; allowed: text",
            "customer": raw.decode("utf-8", "backslashreplace"), "type": None, "event_id": None,
            "from": f"{topics.orders}[0]@5", "retried": False, "retried_from": [],
            "corrected": [], "cut_from": None, "cut": None, "key": shown_raw, "value": shown_raw,
            "headers": [
                {"name": "h", "value": shown_raw}, {"name": "t", "value": {"text": "text"}},
            ],
        }  # fmt: skip

    async def test_a_notice_is_shown_as_one_and_never_sent_again(self, tmp_path: Path):
        event = order("c1", "o1")
        headers = [
            refused_headers(reason, topic="{orders}", offset=offset)
            for offset, reason in enumerate([Reason.AMBIGUOUS, Reason.REFUND_BEYOND_TOTAL])
        ]
        records = [(0, event.key, event.value, each) for each in headers]
        records += [(0, event.key, b"x", refused_headers(topic="{orders}", offset=2))]
        path = tmp_path / "letters.jsonl"
        async with letters_at(tmp_path, *records) as service:
            found = await listed(service)
            assert (found["letters_found"], found["reasons"]) == (1, {"not-json": 1})
            assert found["notices"] == {"ambiguous": 1, "refund-beyond-total": 1}
            assert [each["notice"] for each in found["letters"]] == [True, True, False]
            only = await listed(service, selection_of(service, "ambiguous"))
            assert (only["letters_found"], only["notices"]) == (0, {"ambiguous": 1})
            status, printed, _ = await clv(service, "list")
            assert status == 0
            assert "1 dead letters, 2 notices" in printed
            assert printed.count("refund-beyond-total (notice)") == 2
            status, printed, _ = await clv(service, "show", "0/0")
            assert status == 0
            assert "reason    ambiguous (notice)\n" in printed
            assert "now       would not be sent: it is a notice" in printed
            status, printed, said = await clv(service, "retry", "--reason", "ambiguous", "--force")
            assert (status, said) == (0, "1 left out\n")
            assert "0/0  ambiguous  left out: it is a notice: the event was processed" in printed
            assert await service.records(service.settings.topics.orders) == []
            status, _, _ = await clv(service, "export", str(path))
            assert status == 0
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            assert [line["notice"] for line in lines] == [True, True, False]
            status, _, said = await clv(service, "retry", "--from", str(path), "--reason",
                                        "refund-beyond-total")  # fmt: skip
            assert (status, said) == (0, "1 left out\n")
            assert await service.records(service.settings.topics.orders) == []

    async def test_an_export_replaces_a_file_only_by_force(self, tmp_path: Path):
        path = tmp_path / "letters.jsonl"
        path.write_text("as it was")
        headers = refused_headers(topic="{orders}")
        async with letters_at(tmp_path, (0, b"c1", b"x", headers)) as service:
            status, printed, said = await clv(service, "export", str(path))
            assert (status, printed) == (1, "")
            assert f"{path} exists; name another file, or replace it by --force" in said
            assert path.read_text() == "as it was"
            status, printed, said = await clv(service, "export", str(path), "--force", "--json")
        assert (status, said) == (0, "")
        assert json.loads(printed) == {"file": str(path), "letters": 1}
        assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["0/0"]

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


def selection_of(service, reason):
    return selection(service.settings, reason=reason, topic=None, customer=None, since=None)
