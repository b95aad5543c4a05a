"""`clv load` and `clv backfill` say what was refused, and how far they came."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from models.economics import Economics
from streams.cli.console import CommandError
from streams.cli.loading import Loading
from streams.cli.sources import open_source
from streams.dead_letters.reading import DeadLetters
from streams.files.loaded import loaded_of
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.testing import shop_settings
from tests.servers import forks
from tests.test_streams.service.cluster import ROOT, Cluster, cluster

from .support import written

HEADER = "customer_id,date,amount,order_id,currency"
ROWS = [
    "c1,2026-01-03,10,1,EUR",
    "c2,2026-01-04,ten,2,EUR",  # Makes no event here.
    "c3,2026-01-04,1,3,GBP",  # No rate: only a worker knows.
    "c3,2026-01-05,eleven,4,EUR",
    "c1,2026-01-06,5,5,EUR",
]


async def start(service: Cluster, *arguments: object) -> forks.Forked:
    return await forks.start(
        sys.executable, "-m", "streams.cli", *map(str, arguments),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | service.environment(),
    )  # fmt: skip


async def clv(service: Cluster, *arguments: object) -> tuple[int, str, str]:
    process = await start(service, *arguments)
    out, said = await asyncio.wait_for(process.communicate(), 180)
    assert b"Traceback" not in said, said.decode()
    assert process.returncode is not None
    return process.returncode, out.decode(), said.decode()


@pytest.mark.parametrize("command", ["load", "backfill"])
async def test_what_was_refused_is_told_by_reason_with_the_line(
    tmp_path: Path, command: str
) -> None:
    path = written(tmp_path / "o.csv", HEADER, *ROWS)
    async with cluster(tmp_path, partitions=2, economics=Economics(currency="EUR")) as service:
        await service.start_worker()
        for _ in range(2):
            status, out, said = await clv(service, command, path, "--keep-going", "--json")
            assert status == 0, said
            document = json.loads(out)
            assert document["events"] == len(ROWS)
            rows = document["refused_rows"]
            assert rows["number"] == 2
            (amount,) = rows["reasons"]
            assert (amount["reason"], amount["number"]) == ("amount", 2)
            assert amount["where"] == "o.csv:3"
            assert "column 'amount'" in amount["message"]
            events = document["refused_events"]
            assert events["number"] == 3
            reasons = {each["reason"]: each for each in events["reasons"]}
            assert {name: each["number"] for name, each in reasons.items()} == {
                "invalid-field": 2, "no-exchange-rate": 1,
            }  # fmt: skip
            assert reasons["no-exchange-rate"]["where"] == "o.csv:4"
            assert "2 rows of" in said
            assert "2 amount, such as o.csv:3: amount" in said
            assert "the workers refused 3 of 5 events" in said
            assert "1 no-exchange-rate, such as o.csv:4: data.currency is 'GBP'" in said
            await service.settled()
        topic = service.settings.topics.dead_letters
        assert len(await service.records(topic)) == 6, "the workers refuse them each time"
        letters = DeadLetters(service.broker, topic)
        await letters.prepare()
        found = [entry.letter async for entry in letters.entries()]
        assert len(found) == 3, "but a row is one letter, however often it was loaded"
        assert letters.repeats == 3
        places = [loaded_of(letter.headers) for letter in found]
        assert sorted(place.where for place in places if place) == ["o.csv:3", "o.csv:4", "o.csv:5"]
        assert (await service.updates())["c1"]["totals"]["orders"] == 2


async def test_nothing_refused_is_told_as_nothing(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, ROWS[0])
    async with cluster(tmp_path, partitions=2, economics=Economics(currency="EUR")) as service:
        _, out, said = await clv(service, "load", path, "--no-tick", "--json")
        assert json.loads(out)["refused_rows"] == {"number": 0, "reasons": []}
        assert json.loads(out)["refused_events"] is None, "nobody has waited for the workers"
        assert "refused" not in said


async def test_an_interrupted_backfill_says_how_far_it_came(tmp_path: Path) -> None:
    """Without a worker it waits after its first records."""
    rows = [f"c{number},2026-01-03,1,{number},EUR" for number in range(100)]
    path = written(tmp_path / "o.csv", HEADER, *rows)
    async with cluster(tmp_path, partitions=2, economics=Economics(currency="EUR")) as service:
        process = await start(service, "backfill", path, "--ahead", 40)
        try:
            async with asyncio.timeout(120):
                while True:
                    if len(await service.records(service.settings.topics.backfill)) == 40:
                        break
                    await asyncio.sleep(0.1)
            process.send_signal(signal.SIGINT)
            _, said = await asyncio.wait_for(process.communicate(), 120)
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode == 130
        # The second half is there, so the first one is acknowledged.
        assert re.search(r"^(20|40) of about 100 events of", said.decode(), re.MULTILINE)
        assert "give the same command again to go on" in said.decode()
        assert said.decode().endswith("interrupted\n")
        await service.start_worker()
        status, out, errors = await clv(service, "backfill", path, "--json")
        assert (status, json.loads(out)["events"]) == (0, 100), errors
        await service.settled()
        assert len(await service.updates()) == 100
        assert {each["totals"]["orders"] for each in (await service.updates()).values()} == {1}


@pytest.mark.parametrize("error", [KafkaTimeoutError("away"), CommandError("no worker"), OSError()])
def test_a_load_that_fails_says_how_far_it_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    path = written(tmp_path / "o.csv", HEADER, *ROWS)
    source = open_source(str(path), Economics(currency="EUR"))
    loading = Loading(shop_settings(), Broker("127.0.0.1:1"), source)
    loading.add(3)
    with pytest.raises(type(error)), loading.goes_on():
        raise error
    said = capsys.readouterr().err
    assert f"3 of about 5 events of {path} are published; give the same command again" in said


async def test_a_wrong_row_in_the_middle_says_how_much_before_it_is_published(
    tmp_path: Path,
) -> None:
    rows = [f"c{number},2026-01-03,1,{number},EUR" for number in range(6_000)]
    path = written(tmp_path / "o.csv", HEADER, *rows, "c1,2026-01-03,one,x,EUR")
    async with cluster(tmp_path, partitions=2, economics=Economics(currency="EUR")) as service:
        status, _, said = await clv(service, "load", path)
        assert status == 1
        assert "5000 of about" in said
        assert "o.csv:6002: amount (column 'amount') is 'one'" in said
