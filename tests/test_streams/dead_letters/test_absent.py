"""`clv show` of a customer who is not in the cache says what of theirs was refused."""

import asyncio

from models.contracts.dead_letters import retried_note
from streams.cli import absent
from streams.cli.absent import refusals_of
from streams.testing import shop_settings
from tests.test_streams.commands import started
from tests.test_streams.dead_letters.support import letters_at, order, refused_headers


def letter(partition, customer, number, offset):
    event = order(customer, number)
    headers = refused_headers(topic="{orders}", partition=partition, offset=offset)
    return partition, event.key, event.value, headers


async def test_show_says_why_a_customer_is_not_in_the_cache(tmp_path, monkeypatch):
    records = [letter(1, "c1", "o1", 0), letter(2, "c2", "o2", 0), letter(0, "c1", "o3", 1)]
    done_with = (2, b"c2", None, retried_note(2, 0))
    async with letters_at(tmp_path, *records, done_with) as service:
        shown = await asyncio.to_thread(started, "show", "c1", **service.environment())
        assert shown.returncode == 1
        assert "Traceback" not in shown.stderr
        assert "customer 'c1' is not in the cache, which holds 0" in shown.stderr
        assert f"of {service.settings.topics.dead_letters}: 2\n" in shown.stderr
        for place in ("1/0", "0/0"):
            [line] = [each for each in shown.stderr.splitlines() if each.startswith(f"  {place}  ")]
            assert line.endswith("not-json: data.total is 1; allowed: text")
        assert "clv dead-letters list --customer c1" in shown.stderr

        settings = service.settings.model_copy(update={"broker": service.broker.servers})
        # What was sent again already is told by nobody.
        for customer in ("c2", "c3"):
            [line] = await refusals_of(settings, customer)
            assert line.startswith("no event of theirs that waits for a retry is among the last")
        monkeypatch.setattr(absent, "SHOWN", 1)
        count, newest, *_ = await refusals_of(settings, "c1")
        assert count.endswith(": 2")
        assert newest.startswith("  0/0  ")
        lost = settings.topics.model_copy(update={"dead_letters": "no-such"})
        [line] = await refusals_of(settings.model_copy(update={"topics": lost}), "c1")
        assert "CLV_TOPICS__DEAD_LETTERS" in line


async def test_only_the_last_records_of_each_partition_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(absent, "RECORDS", 2)
    records = [letter(1, "c1", "o0", 0), *(letter(1, "c2", f"o{n}", n) for n in range(1, 4))]
    async with letters_at(tmp_path, *records) as service:
        settings = service.settings.model_copy(update={"broker": service.broker.servers})
        assert (await refusals_of(settings, "c1"))[0].startswith("no event of theirs")
        assert (await refusals_of(settings, "c2"))[0].endswith(": 2")


async def test_without_a_broker_that_answers_it_says_so():
    nowhere = shop_settings()
    [line] = await refusals_of(nowhere, "c1")
    assert "CLV_BROKER" in line
    away = nowhere.model_copy(update={"broker": "127.0.0.1:1"})
    [line] = await refusals_of(away, "c1")
    assert "clv.dead-letters could not be read" in line
