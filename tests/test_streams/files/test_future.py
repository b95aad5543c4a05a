"""A row that is dated far ahead is refused, as in the stream, and moves nobody's as-of time."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from models.economics import Economics
from streams.cli.sources import open_source
from streams.files.errors import InputFileError
from streams.files.reader import read_orders
from tests.test_streams.commands import clv, refused

from .support import accepted, written

HEADER = "customer_id,date,amount,currency"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = "c1,2026-02-20,40,USD"


@pytest.mark.parametrize(
    ("ahead", "taken"),
    [(timedelta(0), True), (timedelta(hours=24), True), (timedelta(hours=24, seconds=1), False)],
)
def test_a_day_is_how_far_clocks_may_differ(tmp_path: Path, ahead: timedelta, taken: bool) -> None:
    path = written(tmp_path / "o.csv", HEADER, GOOD, f"c2,{(NOW + ahead).isoformat()},1,USD")
    if taken:
        assert len(accepted(path, now=NOW)) == 2
        return
    with pytest.raises(InputFileError, match=r"o\.csv:3: time \(column 'date'\) .* a day ahead"):
        accepted(path, now=NOW)
    good, ahead_of_time = read_orders(path, now=NOW, errors="publish")
    assert ahead_of_time.time == good.time, "it does not move the time of the file"
    assert b"2026-03-02T12:00:01Z" in ahead_of_time.value, "it is passed on as it is"


def test_a_cloudevent_of_2062_is_refused_too(tmp_path: Path) -> None:
    line = (
        '{"specversion":"1.0","id":"1","source":"/s","type":"ticket.opened","time":"2026-01-01T'
        '00:00:00Z","data":{"ticket_id":"t","customer_id":"c","channel":"email","opened_at":"2062-'
        '01-01T00:00:00Z"}}'
    )
    path = written(tmp_path / "o.jsonl", line)
    with pytest.raises(InputFileError, match=r"o\.jsonl:1: data\.opened_at is '2062.* day ahead"):
        list(read_orders(path, now=NOW))


@pytest.mark.parametrize("command", ["score", "fit"])
def test_the_commands_name_the_line(tmp_path: Path, command: str) -> None:
    path = written(tmp_path / "o.csv", HEADER, GOOD, "c2,2962-01-01,1,USD")
    said = refused(command, path)
    assert "o.csv:3: time (column 'date') is '2962-01-01': more than a day ahead of now" in said


@pytest.mark.parametrize("as_of", [(), ("--as-of", "2963-01-01")])
def test_nobody_is_valued_as_of_the_future(tmp_path: Path, as_of: tuple[str, ...]) -> None:
    path = written(tmp_path / "o.csv", HEADER, GOOD, "c2,2962-01-01,1,USD")
    done = clv("score", path, "--keep-going", *as_of)
    assert done.returncode == 0, done.stderr
    assert "1 of 2 events were refused" in done.stderr
    assert "1 future, such as: data.placed_at is 2962-01-01" in done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert row["customer_id"] == "c1"
    assert row["as_of"].startswith("2963-01-01" if as_of else "2026-02-20T23:59:59.999")


def test_a_source_ends_with_the_last_day_that_has_come(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, "c2,2062-01-01,1,USD", GOOD)
    source = open_source(str(path), Economics(), keep_going=True, now=NOW)
    assert source.end().before == datetime(2026, 2, 21, tzinfo=UTC)
    assert open_source("cdnow", Economics(), now=NOW).end().moment.year == 1998
