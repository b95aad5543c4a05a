"""A replay of what begins late, gives nothing, or has no order of time says so, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.contracts import TYPES_OF_TOPIC
from models.economics import Economics
from streams.cli.console import CommandError
from streams.cli.record_options import parse_slice
from streams.cli.replay.source import Asked
from streams.recording import BEGINNING, END, Head, Span
from streams.recording.writer import recording_writer
from tests.test_streams.commands import clv, refused

from .support import Making, some_events, topics, write

LATE = "what happened before is not in it"
NOTHING = "nothing was replayed"
UNSORTED = "is not sorted by time"
ORDERS = """order_id,customer_id,placed_at,total,currency
o1,c1,2026-01-03,40.00,USD
o2,c2,2026-02-03,60.00,USD
o3,c1,2026-03-03,45.00,USD
"""


def recorded(path: Path, spans=(), **given):
    making = Making(2)
    with recording_writer(path, Head(0, topics(2), spans, **given)) as writer:
        for event in some_events(6, 5):
            writer.add(making.event(event))
        writer.finish()
    return path


def said(path, *options, command="memory"):
    done = clv("replay", command, path, *options)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_begins_with_its_topics_is_replayed_without_a_word(tmp_path: Path):
    # Parameters and ticks of before need not be there.
    spans = tuple(
        Span(number, partition, 0 if topic.role in TYPES_OF_TOPIC else 7, 9)
        for number, topic in enumerate(topics(2))
        for partition in range(topic.partitions)
    )
    path = recorded(tmp_path / "a.clvrec", spans)
    assert said(path) == ""
    assert said(path, "--from", "0") == ""
    assert said(recorded(tmp_path / "b.clvrec", spans, since="offset 0")) == ""


def test_a_recording_that_begins_after_the_first_offsets_says_where(tmp_path: Path):
    spans = (Span(1, 0, 0, 9), Span(1, 1, 5_000, 9_000), Span(2, 0, 3, 9))
    found = said(recorded(tmp_path / "a.clvrec", spans))
    assert found.count(LATE) == 1
    assert "x.orders[1]@5000 (and 1 more late)" in found


def test_a_recording_of_a_slice_says_where_it_begins(tmp_path: Path):
    found = said(recorded(tmp_path / "a.clvrec", (Span(1, 0, 3, 9),), since="2026-01-04"))
    assert found.count(LATE) == 1
    assert "begins at 2026-01-04:" in found


def test_from_says_that_what_was_before_is_not_there(tmp_path: Path):
    path = recorded(tmp_path / "a.clvrec")
    middle = some_events(6, 5)[10].time.date().isoformat()
    found = said(path, "--from", middle)
    assert found.count(LATE) == 1
    assert f"begins at {middle}" in found
    assert NOTHING not in found


@pytest.mark.parametrize("name", ["a.clvrec", "orders.csv"])
def test_a_slice_that_holds_nothing_says_so(name, tmp_path: Path):
    path = tmp_path / name
    recorded(path) if name == "a.clvrec" else path.write_text(ORDERS)
    found = said(path, "--from", "2035-01-01")
    assert found.count(NOTHING) == 1
    assert "from 2035-01-01T00:00:00+00:00 to the end" in found
    assert said(path, "--until", "1990-01-01").count(NOTHING) == 1


def test_a_comparison_of_what_begins_late_says_so_once(tmp_path: Path):
    path = recorded(tmp_path / "a.clvrec", (Span(1, 0, 3, 9),))
    (tmp_path / "a.toml").write_text("")
    compared = ("--settings", tmp_path / "a.toml", tmp_path / "a.toml")
    assert said(path, *compared, command="compare").count(LATE) == 1


def test_orders_that_are_not_in_the_order_of_time_are_counted(tmp_path: Path):
    heading, *lines = ORDERS.splitlines(keepends=True)
    for order, expected in (((0, 1, 2), 0), ((0, 0, 1), 0), ((2, 0, 1), 1), ((2, 1, 0), 2)):
        path = tmp_path / "orders.csv"
        path.write_text(heading + "".join(lines[each] for each in order))
        found = said(path)
        assert found.count(UNSORTED) == (expected > 0)
        assert expected == 0 or f"{expected} events are earlier" in found


def test_records_that_are_refused_are_counted_and_the_first_says_why(tmp_path: Path):
    path = tmp_path / "orders.csv"
    path.write_text(ORDERS.replace("USD", "EUR"))
    told = said(path)
    assert "warning: 3 records were refused; the first is shop.orders[" in told
    assert ", no-exchange-rate: " in told
    assert "EUR" in told
    path.write_text(ORDERS)
    assert "refused" not in said(path)


def test_a_folder_hides_no_topics_and_a_file_does(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = Asked("orders", BEGINNING, END)
    (tmp_path / "orders").mkdir()
    assert asked.is_topics
    (tmp_path / "orders").rmdir()
    write(tmp_path / "orders", [])
    assert not asked.is_topics


@pytest.mark.parametrize("timestamp", [-1, 1_767_441_600_000_000])
def test_a_timestamp_that_is_none_is_named_with_its_place(timestamp, tmp_path: Path):
    making, path = Making(2), tmp_path / "a.clvrec"
    first, second = some_events(6, 5)[:2]
    odd = making.record("orders", 1, timestamp, second.key, second.value, second.headers)
    write(path, [making.event(first), odd])
    done = clv("replay", "memory", path)
    assert done.returncode == 1
    assert f"x.orders[1]@{odd.offset}: the timestamp is {timestamp}," in done.stderr


def test_a_day_after_which_there_is_none_cannot_be_the_last(tmp_path: Path):
    path = recorded(tmp_path / "a.clvrec")
    done = clv("replay", "memory", path, "--until", "9999-12-31")
    assert done.returncode == 1
    assert "--until is '9999-12-31', and no day follows it: write end" in done.stderr
    assert said(path, "--until", "9999-12-30") == ""


REPLAYS = (
    ("memory",),
    ("compare", "--settings", "a.toml", "b.toml"),
    ("topics", "--prefix", "x."),
    ("sandbox", "--group", "x"),
    ("production", "--yes-touch", "clv"),
)


@pytest.mark.parametrize("command", [("record",), *(("replay", *each) for each in REPLAYS)])
def test_a_slice_that_ends_before_it_begins_is_refused(command, tmp_path: Path):
    path = tmp_path / "a.clvrec"
    if command[0] == "replay":
        recorded(path)
    words = 1 if command[0] == "record" else 2
    options = ("--from", "2026-03-01", "--until", "2026-02-01")
    told = refused(
        *command[:words], path, *command[words:], *options, CLV_BROKER="127.0.0.1:1",
        CLV_REDIS="redis://127.0.0.1:1",
    )  # fmt: skip
    assert "--from 2026-03-01 is not before --until 2026-02-01" in told
    assert path.exists() == (command[0] == "replay")


@pytest.mark.parametrize(
    ("since", "until", "empty"),
    [
        ("2026-03-01", "2026-02-28", True),
        ("2026-03-01", "2026-03-01", False),
        ("2026-03-01T12:00:00Z", "2026-03-01T12:00:00Z", True),
        ("2026-03-01T12:00:01+01:00", "2026-03-01T12:00:00Z", False),
        ("8", "7", True),
        ("7", "7", True),
        ("7", "8", False),
        # An offset and a time: which comes first differs from partition to partition.
        ("7", "1990-01-01", False),
        ("2035-01-01", "7", False),
        ("2035-01-01", "end", False),
    ],
)
def test_a_slice_is_refused_where_nothing_can_lie_between(since, until, empty):
    if not empty:
        assert parse_slice(since, until, Economics())
        return
    with pytest.raises(CommandError) as error:
        parse_slice(since, until, Economics())
    assert f"--from {since} is not before --until {until}:" in str(error.value)
