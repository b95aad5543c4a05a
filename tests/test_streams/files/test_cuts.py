"""What counts until when: days as the shop has them, and times as the data say them."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from models.calendar import Days, beginning_of_day, end_of_day, last_millisecond
from models.context import Context
from models.economics import Economics
from streams.batch import fold_events
from streams.files.reader import read_orders
from tests.test_streams.commands import clv

from .support import written

HEADER = "customer_id,date,amount,currency"
SANTIAGO = ("--timezone", "America/Santiago")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-04-04", 24),
        ("America/Santiago", "2026-04-04", 25),  # Back at midnight.
        ("America/Santiago", "2026-09-06", 23),  # Forward at midnight, which is not there.
        ("America/Havana", "2026-11-01", 25),  # Back at one o'clock, and midnight comes twice.
        ("Europe/Berlin", "2026-03-29", 23),
        ("Pacific/Apia", "2011-12-31", 24),  # The day before was left out.
    ],
)
def test_a_day_ends_where_the_next_one_begins(zone: str, day: str, hours: int) -> None:
    today, where = date.fromisoformat(day), ZoneInfo(zone)
    begin, end = beginning_of_day(today, where), end_of_day(today, where)
    assert end.astimezone(UTC) - begin.astimezone(UTC) == timedelta(hours=hours)
    assert end == beginning_of_day(today + timedelta(days=1), where)
    last = last_millisecond(end)
    assert (last.tzinfo, last.date()) == (where, today)
    days, step = Days(zone), timedelta(minutes=15)
    moment, first = begin.astimezone(UTC), begin.astimezone(UTC)
    while moment < end.astimezone(UTC):
        assert days.of(round(moment.timestamp() * 1000)) == today.toordinal(), moment
        moment += step
    assert days.of(round(moment.timestamp() * 1000)) > today.toordinal()
    assert days.of(round(first.timestamp() * 1000) - 1) < today.toordinal()


def customers(stdout: str) -> dict[str, dict[str, str]]:
    return {row["customer_id"]: row for row in csv.DictReader(io.StringIO(stdout))}


def test_the_twenty_fifth_hour_of_a_day_counts(tmp_path: Path) -> None:
    path = written(
        tmp_path / "o.csv", HEADER,
        "early,2026-04-04T03:59:59Z,1,USD",  # 00:59 that day, in summer time.
        "late,2026-04-05T03:59:59.9999Z,1,USD",  # 23:59 for the second time.
        "next,2026-04-05T04:00:00Z,1,USD",
    )  # fmt: skip
    done = clv("score", path, *SANTIAGO, "--as-of", "2026-04-04")
    assert set(customers(done.stdout)) == {"early", "late"}, done.stderr
    assert "1 events are not before 2026-04-05T00:00:00-04:00" in done.stderr
    assert customers(done.stdout)["early"]["as_of"] == "2026-04-05T03:59:59.999000Z"
    assert customers(done.stdout)["early"]["T"] == "0"


def test_the_default_is_the_end_of_the_last_day_however_long_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, "c1,2026-04-05T03:30:00Z,1,USD")
    done = clv("score", path, *SANTIAGO)
    assert customers(done.stdout)["c1"]["as_of"] == "2026-04-05T03:59:59.999000Z"


def test_a_day_and_the_midnight_that_ends_it_are_one_cut(tmp_path: Path) -> None:
    path = written(
        tmp_path / "o.csv", HEADER,
        "in,2026-01-31T23:59:59.9999Z,1,USD", "out,2026-02-01T00:00:00Z,1,USD",
    )  # fmt: skip
    for as_of in ("2026-01-31", "2026-02-01T00:00:00", "2026-02-01T00:00:00Z"):
        assert set(customers(clv("score", path, "--as-of", as_of).stdout)) == {"in"}, as_of


@pytest.mark.parametrize(
    ("event_type", "time_field", "more"),
    [
        ("order.placed", "placed_at", {"order_id": "1", "currency": "USD", "total": "5.00"}),
        ("order.refunded", "refunded_at", {"refund_id": "1", "currency": "USD", "amount": "5.00"}),
        ("order.cancelled", "cancelled_at", {"order_id": "1"}),
        ("ticket.opened", "opened_at", {"ticket_id": "1", "channel": "email"}),
    ],
)
def test_a_cloudevent_happened_when_its_data_say_not_its_envelope(
    tmp_path: Path, event_type: str, time_field: str, more: dict[str, str]
) -> None:
    """Exported in March, a year after it happened; and one that has yet to come by its data."""

    def line(name: str, at: str, said: str) -> str:
        data = {"customer_id": name, time_field: at, **more}
        return json.dumps(
            {
                "specversion": "1.0", "id": name, "source": "/s", "type": event_type,
                "time": said, "data": data,
            }
        )  # fmt: skip

    path = written(
        tmp_path / "o.jsonl",
        line("then", "2025-03-01T12:00:00Z", "2026-03-01T12:00:00Z"),
        line("later", "2025-06-01T12:00:00Z", "2025-01-01T12:00:00Z"),
    )
    events = list(read_orders(path))
    assert [event.time.month for event in events] == [3, 6]
    folded = fold_events(events, Context(Economics()), datetime(2025, 4, 1, tzinfo=UTC))
    assert set(folded.states) == {b"then"}
    assert folded.left_out == 1
