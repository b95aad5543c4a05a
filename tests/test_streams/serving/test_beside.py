"""What looks at all customers, by a process of its own that ends with the server, or before it."""

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.calendar import milliseconds
from models.coming import Coming
from streams.serving import beside as besides
from streams.serving.beside import Beside, Kept, KeptAhead
from streams.serving.looking_ahead import Ahead
from streams.serving.recent_changes import ChangeData
from streams.serving.summing import Survey
from streams.settings import Settings

SOON = 300.0


def processes_of(parent):
    """The children of a process that answer."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "streams.serving.answering" in command]


async def test_a_process_sums_and_looks_ahead_and_ends_with_the_server(shop):
    beside = Beside(shop.service.settings)
    surveys, ahead = Kept(beside, "sums", Survey), KeptAhead(beside)
    found, comes = await asyncio.gather(surveys.get(SOON), ahead.get(SOON))
    assert (found.customers, surveys.why, ahead.why) == (21, "", "")
    values = [each["clv"] for each in (await shop.service.updates()).values()]
    assert round(found.realised + found.expected, 6) == round(sum(values), 6)
    # By the clock all are due since long.
    assert len(comes.changes) == 21
    assert len(processes_of(os.getpid())) == 1
    await beside.close()
    assert processes_of(os.getpid()) == []


async def test_one_that_was_killed_is_said_and_another_takes_its_place(shop, monkeypatch):
    monkeypatch.setattr(besides, "LEAST_AGE", 0.0)
    monkeypatch.setattr(besides, "SHARE", 1e9)
    beside = Beside(shop.service.settings)
    surveys = Kept(beside, "sums", Survey)
    first = await surveys.get(SOON)
    (process,) = processes_of(os.getpid())
    os.kill(process, signal.SIGKILL)
    assert await surveys.get(SOON) is first
    assert surveys.why == "the process that sums has ended"
    again = await surveys.get(SOON)
    assert again.at > first.at
    assert surveys.why == ""
    await beside.close()


async def test_while_kafka_is_away_it_says_why():
    beside = Beside(Settings(broker="127.0.0.1:1", redis="redis://127.0.0.1:1/0"))
    surveys = Kept(beside, "sums", Survey)
    assert await surveys.get(SOON) is None
    assert surveys.why == "KafkaConnectionError"
    await beside.close()


class _Waits:
    """Answers when it is told to."""

    def __init__(self):
        self.answer = asyncio.get_running_loop().create_future()
        self.asked = 0

    async def ask(self, _question):
        self.asked += 1
        return await self.answer


async def test_of_a_customer_who_was_removed_meanwhile_or_later_nothing_is_kept():
    beside = _Waits()
    kept = KeptAhead(beside)
    assert await kept.get(0.01) is None
    kept.forget("anna")
    beside.answer.set_result(Ahead(None, 0, 0, {"anna": [], "ben": [], "cleo": []}, 0))
    found = await kept.get(SOON)
    assert found.changes.keys() == {"ben", "cleo"}
    kept.forget("ben")
    assert found.changes.keys() == {"cleo"}


MIDNIGHT = datetime(2026, 5, 2, tzinfo=UTC)


def coming(dimension, days):
    at = milliseconds(MIDNIGHT + timedelta(days=days))
    return Coming("anna", at, dimension, "a", "b", 0.0)


def told(dimension, days):
    return ChangeData(
        "anna", dimension, "a", "b", "time", {}, None, 0.0, MIDNIGHT + timedelta(days=days)
    )


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_what_was_told_meanwhile_or_later_comes_no_more(meanwhile):
    beside = _Waits()
    kept = KeptAhead(beside)
    changes = [coming("tier", 0), coming("lifecycle", 0), coming("tier", 3), coming("tier", 5)]
    came = [told("tier", -1), told("tier", 3)]
    assert await kept.get(0.01) is None
    if meanwhile:
        for change in came:
            kept.told(change)
    beside.answer.set_result(Ahead(None, 0, 0, {"anna": changes, "ben": [coming("tier", 0)]}, 0))
    found = await kept.get(SOON)
    read = found.changes["anna"]
    if not meanwhile:
        for change in came:
            kept.told(change)
        # Whoever reads the list meanwhile reads on.
        assert read == changes
    assert found.changes["anna"] == [changes[1], changes[3]]
    for dimension in ("lifecycle", "tier"):
        kept.told(told(dimension, 9))
    assert found.changes.keys() == {"ben"}


@pytest.mark.parametrize("meanwhile", [False, True])
async def test_it_is_made_anew_when_other_rules_hold_and_else_kept(meanwhile, monkeypatch):
    monkeypatch.setattr(besides, "SETTLE_SECONDS", 0.0)
    beside = _Waits()
    kept = KeptAhead(beside)
    assert await kept.get(0.01) is None
    # Nobody begins a second one while one is made.
    assert await kept.get(0.01) is None
    assert beside.asked == 1
    if meanwhile:
        kept.outdate()
    beside.answer.set_result(Ahead(None, 0, 0, {}, 0))
    await kept.get(SOON)
    if not meanwhile:
        await kept.get(SOON)
        assert beside.asked == 1
        kept.outdate()
    for _ in range(2):
        await kept.get(SOON)
        assert beside.asked == 2
