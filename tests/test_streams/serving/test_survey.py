"""Sums over all customers, by a process of its own that ends with the server, or before it."""

import os
import signal
from pathlib import Path

from streams.serving import survey as surveying
from streams.serving.survey import Surveys
from streams.settings import Settings

SOON = 300.0


def processes_of(parent):
    """The children of a process that sum."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "streams.serving.summing" in command]


async def test_a_process_sums_and_ends_with_the_server(shop):
    surveys = Surveys(shop.service.settings)
    found = await surveys.get(SOON)
    assert (found.customers, surveys.why) == (21, "")
    values = [each["clv"] for each in (await shop.service.updates()).values()]
    assert round(found.realised + found.expected, 6) == round(sum(values), 6)
    assert len(processes_of(os.getpid())) == 1
    await surveys.close()
    assert processes_of(os.getpid()) == []


async def test_one_that_was_killed_is_said_and_another_takes_its_place(shop, monkeypatch):
    monkeypatch.setattr(surveying, "LEAST_AGE", 0.0)
    monkeypatch.setattr(surveying, "SHARE", 1e9)
    surveys = Surveys(shop.service.settings)
    first = await surveys.get(SOON)
    (process,) = processes_of(os.getpid())
    os.kill(process, signal.SIGKILL)
    assert await surveys.get(SOON) is first
    assert surveys.why == "the process that sums has ended"
    again = await surveys.get(SOON)
    assert again.at > first.at
    assert surveys.why == ""
    await surveys.close()


async def test_while_kafka_is_away_it_says_why():
    surveys = Surveys(Settings(broker="127.0.0.1:1", redis="redis://127.0.0.1:1/0"))
    assert await surveys.get(SOON) is None
    assert surveys.why == "KafkaConnectionError"
    await surveys.close()
