"""When a record is gone at latest follows from the configuration of its topic."""

import pytest

from streams.erasing.lifetime import HOUR_MS, Lifetimes, Until
from streams.erasing.trace import Proof, Trace

DAY = 24 * HOUR_MS


def compacted(**settings):
    config = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(DAY)}
    named = {name.replace("_", "."): value for name, value in settings.items()}
    return Lifetimes("t", config | named)


def test_a_record_that_was_replaced_goes_with_the_compaction_of_what_replaced_it():
    assert compacted().replaced(1000).at == 1000 + DAY + HOUR_MS


def test_a_tombstone_outlives_its_first_compaction():
    assert compacted().tombstone(0).at == 3 * DAY + HOUR_MS
    assert compacted(delete_retention_ms="0").tombstone(0).at == 2 * DAY + HOUR_MS
    at_once = compacted(delete_retention_ms="0", max_compaction_lag_ms="100")
    assert at_once.tombstone(0).at == 200 + HOUR_MS


def test_without_a_limit_of_compaction_nothing_says_when():
    unlimited = compacted(max_compaction_lag_ms=str(2**63 - 1))
    for until in (unlimited.replaced(0), unlimited.tombstone(0)):
        assert until.at is None
        assert "set max.compaction.lag.ms on t" in until.why


def test_retention_and_a_segment_bound_what_is_deleted_by_time():
    month = Lifetimes("t", {"retention.ms": str(30 * DAY), "segment.ms": str(DAY)})
    assert month.expires(5).at == 5 + 31 * DAY + HOUR_MS
    assert Lifetimes("t", {"retention.ms": str(DAY)}).expires(0).at == 8 * DAY + HOUR_MS


@pytest.mark.parametrize("config", [None, {}])
def test_what_the_broker_does_not_tell_bounds_nothing(config):
    assert "does not tell" in Lifetimes("t", config).expires(0).why
    assert Lifetimes("t", config).expires(0).at is None


def test_for_ever_says_what_to_do():
    assert Lifetimes("shop.orders", {"retention.ms": "-1"}).expires(0) == Until(
        None, "kept for ever: set retention.ms on shop.orders"
    )


def test_the_verdict_says_when_the_last_trace_goes():
    def trace(at):
        return Trace("t[0]@1", "", Until(at, ""), ("c1",))

    assert Proof(["c1"]).verdict == "gone: nothing was left at 1970-01-01T00:00:00+00:00"
    going = Proof(["c1"], traces=[trace(DAY), trace(2 * DAY), trace(0)])
    assert (going.verdict, going.is_clean) == ("goes by 1970-01-03T00:00:00+00:00", True)
    staying = Proof(["c1"], traces=[trace(DAY), trace(None)])
    assert (staying.verdict, staying.is_clean) == ("not gone: 1 of 2 traces stay", False)
    assert not Proof(["c1"], skipped=["Redis"]).is_clean
