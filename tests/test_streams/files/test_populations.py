"""`clv fit` and `clv score` on recordings, and on what the service's topics hold."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.context import Context
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from models.economics import Economics
from streams.batch import end_of_day, fit_states, fold_events, score_states
from streams.cli.score import row_of
from streams.datasets import DATASETS
from streams.datasets.simulate import with_simulation
from streams.files.outgoing import OutgoingEvent, cloud_event
from tests.servers import forks
from tests.test_streams.commands import clv, refused
from tests.test_streams.recording.support import PARAMETERS, Making, write, write_events
from tests.test_streams.service.cluster import ROOT, cluster

ECONOMICS = Economics()
CDNOW = DATASETS["cdnow"]


@pytest.fixture(scope="module")
def events() -> list[OutgoingEvent]:
    """All events of 400 customers of CDNOW, simulated ones included."""
    kept = {f"{number:05}".encode() for number in range(1, 401)}
    return [event for event in with_simulation(CDNOW, seed=1) if event.key in kept]


@pytest.fixture(scope="module")
def recording(events: list[OutgoingEvent], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "shop.clvrec"
    write_events(path, events, Tick(as_of=CDNOW.as_of), PARAMETERS)
    return path


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {row["customer_id"]: row for row in csv.DictReader(io.StringIO(text))}


def expected(events: list[OutgoingEvent], before: datetime, as_of: datetime) -> dict[str, dict]:
    folded = fold_events(events, Context(ECONOMICS), before)
    fitted = fit_states(folded.states, as_of, "day", ECONOMICS).parameters
    updates = score_states(folded.states, Context(ECONOMICS, fitted), as_of)
    rows = [row_of(update) for update in updates]
    return {
        row["customer_id"]: {name: "" if v is None else str(v) for name, v in row.items()}
        for row in rows
    }


class TestRecordings:
    @pytest.mark.parametrize("day", ["1998-06-30", "1997-09-30"])
    def test_the_values_are_those_of_its_events(
        self, events: list[OutgoingEvent], recording: Path, day: str
    ) -> None:
        before = datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
        done = clv("score", recording, "--as-of", day)
        assert done.returncode == 0, done.stderr
        as_of = before - timedelta(milliseconds=1)
        assert rows_of(done.stdout) == expected(events, before, as_of)

    def test_a_fit_is_that_of_its_events(
        self, events: list[OutgoingEvent], recording: Path
    ) -> None:
        done = clv("fit", recording, "--until", "1997-09-30", "--time-unit", "week", "--json")
        assert done.returncode == 0, done.stderr
        last = datetime(1997, 9, 30, 23, 59, 59, 999_000, tzinfo=UTC)
        folded = fold_events(events, Context(ECONOMICS), end_of_day(last, ECONOMICS))
        fitted = fit_states(folded.states, last, "week", ECONOMICS).parameters
        assert Parameters.model_validate_json(done.stdout) == fitted

    def test_an_event_happened_when_its_data_say_and_arrived_when_it_was_recorded(
        self, tmp_path: Path
    ) -> None:
        """Two arrived late; what was dated far ahead when it arrived is refused, now as then."""
        making, arrived = Making(1), datetime(2026, 3, 1, 12, tzinfo=UTC)

        def order(customer: str, placed_at: datetime):
            event = cloud_event(
                "orders", "order.placed", source="/s", event_id=customer, time=placed_at,
                data={
                    "order_id": customer, "customer_id": customer, "placed_at": placed_at,
                    "currency": "USD", "total": "5.00",
                },
                customer_id=customer,
            )  # fmt: skip
            at = round(arrived.timestamp() * 1000)
            return making.record("orders", 0, at, event.key, event.value, event.headers)

        path = tmp_path / "slice.clvrec"
        records = [
            order("old", datetime(2025, 5, 1, tzinfo=UTC)),
            order("new", datetime(2026, 2, 1, tzinfo=UTC)),
            order("ahead", datetime(2026, 6, 1, tzinfo=UTC)),
        ]
        write(path, records, 1)
        assert set(rows_of(clv("score", path, "--as-of", "2025-12-31").stdout)) == {"old"}
        done = clv("score", path)
        rows = rows_of(done.stdout)
        assert set(rows) == {"old", "new"}
        assert rows["old"]["as_of"].startswith("2026-02-01T23:59:59.999")
        assert "1 of 3 events were refused" in done.stderr
        assert "1 future" in done.stderr

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (("--columns", "amount=x"), "--columns: for files of orders or data sets"),
            (("--keep-going", "--status", "a=paid"), "--status, --keep-going: for files"),
        ],
    )
    def test_options_of_files_are_refused(
        self, recording: Path, options: tuple[str, ...], message: str
    ) -> None:
        assert message in refused("score", recording, *options)

    def test_a_damaged_one_is_refused(self, recording: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.clvrec"
        cut.write_bytes(recording.read_bytes()[:-20])
        assert "cut.clvrec" in refused("score", cut)


@pytest.mark.parametrize("command", ["fit", "score"])
def test_either_a_file_or_the_topics(command: str) -> None:
    for arguments in ((), ("cdnow", "--topics")):
        said = refused(command, *arguments, status=2)
        assert "name a FILE or a DATASET, or give --topics" in said
    assert "set CLV_BROKER" in refused(command, "--topics")


async def test_a_shop_that_only_has_events_is_fitted_and_scored(
    tmp_path: Path, events: list[OutgoingEvent]
) -> None:
    async with cluster(tmp_path, partitions=2) as service:

        async def command(*arguments: str) -> tuple[int, str, str]:
            process = await forks.start(
                sys.executable, "-m", "streams.cli", *arguments,
                cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
                env=os.environ | service.environment(),
            )  # fmt: skip
            out, said = await asyncio.wait_for(process.communicate(), 180)
            assert b"Traceback" not in said, said.decode()
            return process.returncode or 0, out.decode(), said.decode()

        status, _, said = await command("score", "--topics")
        assert (status, "there are no customers in" in said) == (1, True), said
        await service.start_worker()
        await service.publish(events)
        await service.settled()

        status, out, said = await command("fit", "--topics", "--publish", "--json")
        assert status == 0, said
        fitted = Parameters.model_validate_json(out)
        folded = fold_events(events, Context(ECONOMICS), CDNOW.as_of)
        alike = fit_states(folded.states, fitted.fitted_until, "day", ECONOMICS).parameters
        assert fitted.model_dump() == alike.model_dump()
        assert fitted.fitted_until > datetime.now(UTC)
        await service.settled()
        published = await service.updates()
        assert {each["model"]["version"] for each in published.values()} == {fitted.version}

        path = tmp_path / "parameters.json"
        path.write_text(fitted.model_dump_json())
        status, out, said = await command(
            "score", "--topics", "--parameters", str(path), "--format", "json"
        )
        assert status == 0, said
        scored = {row["customer_id"]: row for row in json.loads(out)}
        assert set(scored) == set(published)
        for customer, row in scored.items():
            assert row["realised"] == published[customer]["realised"]["total"]
            assert row["frequency"] == published[customer]["statistics"]["frequency"]
            assert row["model"] == published[customer]["model"]["name"]

        for arguments in (("fit", "--until", "2020-01-01"), ("score", "--as-of", "2020-01-01")):
            status, _, said = await command(*arguments, "--topics")
            assert status == 1
            assert "the topics hold what is known now" in said
