"""What a worker logs of refusals: counts and one example a reason, seldom, without their data."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from models.contracts import NOTICES, Reason, Refused
from streams.refusals import SECONDS_BETWEEN, WITHOUT_DATA, RefusalLog

RATE = Refused(Reason.NO_EXCHANGE_RATE, "data.currency", "data.currency is 'EUR', without a rate")
JSON = Refused(Reason.NOT_JSON, None, "the value is 'anna@example.com'; allowed: JSON")


def told(refusals: RefusalLog, now: float) -> list[tuple[str, int, int]]:
    """Reason, count and offset of the lines that are logged now."""
    with capture_logs() as logged:
        refusals.tell(now)
    return [(line["reason"], line["count_since_last_line"], line["offset"]) for line in logged]


def test_each_reason_has_a_line_a_minute_with_how_many_there_were_since():
    refusals = RefusalLog()
    assert told(refusals, 100.0) == []
    refusals.note(RATE, "shop.orders", 0, 5)
    refusals.note(JSON, "shop.orders", 0, 6)
    assert told(refusals, 100.0) == [("no-exchange-rate", 1, 5), ("not-json", 1, 6)]
    for offset in range(7, 1_007):
        refusals.note(RATE, "shop.orders", 0, offset)
        assert told(refusals, 100.0 + offset / 1_000) == []
    # Nothing else need be refused for the rest to be told.
    assert told(refusals, 100.0 + SECONDS_BETWEEN) == [("no-exchange-rate", 1_000, 7)]
    assert told(refusals, 100.0 + 2 * SECONDS_BETWEEN) == []


def test_what_is_left_is_told_when_the_worker_stops():
    refusals = RefusalLog()
    for offset in range(3):
        refusals.note(RATE, "shop.orders", 0, offset)
        told(refusals, 1.0)
    with capture_logs() as logged:
        refusals.tell_all()
    assert [line["count_since_last_line"] for line in logged] == [2]


@pytest.mark.parametrize("reason", Reason)
def test_a_line_says_where_and_why_and_quotes_no_record(reason):
    refusals = RefusalLog()
    refusals.note(Refused(reason, "data.total", "anna@example.com"), "shop.orders", 3, 4)
    with capture_logs() as logged:
        refusals.tell(0.0)
    [line] = logged
    where = (line["topic"], line["partition"], line["offset"], line["field"])
    assert where == ("shop.orders", 3, 4, "data.total")
    assert f"clv dead-letters list --reason {reason.value} " in line["remedy"]
    what = "accepted with a notice" if reason in NOTICES else "refused"
    assert line["event"] == f"records {what}: {reason.value}"
    assert ("anna@example.com" in str(line)) == (reason in WITHOUT_DATA)
