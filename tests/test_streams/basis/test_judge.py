"""What counts as lost: judged from what the broker says, without one."""

from typing import ClassVar

import pytest
from faust.types import TP

from models.aggregate.record import UnreadableRecord
from streams.basis.findings import BasisLost, Kind
from streams.basis.judge import (
    Log,
    Shop,
    adopt,
    judge_changelog,
    judge_growth,
    judge_log,
    judge_missing,
    judge_partition,
    judge_shop,
    judge_state,
)
from streams.basis.record import SCHEMA_VERSION, Accepted, Basis, Mark, decode_basis, encode_basis

ORDERS = TP("shop.orders", 2)
TOPICS = ("complaint",)
MARK = Mark(90, 1_700_000_000_000, b"digest")
OTHER = Mark(90, 1_700_000_000_000, b"another")


def basis(**changes):
    return Basis(
        **{
            "partitions": 4, "topics": {"shop.orders": "id-1"}, "generations": {},
            "currency": "EUR", "timezone": "Europe/Berlin", "marks": {"shop.orders/2": MARK},
            "complaint_topics": [*TOPICS],
        } | changes
    )  # fmt: skip


def log(begin=0, end=100, committed=100, at_mark=MARK, topic_id="id-1", first_at=None):
    return Log(ORDERS, topic_id, begin, end, committed, at_mark, first_at)


class TestALog:
    @pytest.mark.parametrize(
        "seen",
        [
            log(),
            log(end=500),
            log(begin=100, at_mark=None),
            log(begin=95, committed=95, at_mark=None),
            # The group's offsets expired: it reads from the beginning, and everything is a replay.
            log(committed=None),
            log(begin=91, committed=None, at_mark=None),
            # Restored from a copy: another topic by its id, the same records.
            log(topic_id="id-2"),
            log(topic_id=""),
        ],
    )
    def test_one_that_has_what_was_and_what_is_to_be_read_has_lost_nothing(self, seen):
        assert judge_log(seen, basis()) is None

    @pytest.mark.parametrize("held", [None, basis(marks={})])
    def test_of_one_that_was_never_read_nothing_can_be_lost(self, held):
        for seen in (log(committed=None, at_mark=None), log(0, 0, 0, None), log(5, 7, None, None)):
            assert judge_log(seen, held) is None
        assert judge_log(log(committed=None, at_mark=None, topic_id="id-2"), held) is None

    def test_records_deleted_before_they_were_read_are_counted_and_dated(self):
        seen = log(begin=130, end=200, at_mark=None, first_at=1_700_000_000_000)
        finding = judge_log(seen, basis())
        assert (finding.kind, finding.place, finding.go_on) == (
            Kind.DELETED, "shop.orders[2]", 130,
        )  # fmt: skip
        assert "30 records, offsets 100 to 129, were deleted" in finding.lost
        assert "the first that is still there is 130, and is of 2023-11-14T22:13:20" in finding.lost
        assert "retention.ms=-1" in finding.remedy
        assert "clv accept-loss" in finding.remedy

    def test_records_deleted_after_the_groups_offsets_expired_are_found_by_the_mark(self):
        finding = judge_log(log(begin=95, committed=None, at_mark=None), basis())
        assert finding.kind is Kind.DELETED
        assert "4 records, offsets 91 to 94" in finding.lost

    def test_a_log_without_its_end_says_how_much_is_gone(self):
        finding = judge_log(log(end=95), basis())
        assert (finding.kind, finding.go_on) == (Kind.CUT, 91)
        assert "ends at offset 95, and 100 was reached before: 5 records" in finding.lost

    def test_a_log_that_ends_before_its_mark_is_read_again_from_its_beginning(self):
        finding = judge_log(log(begin=3, end=80, at_mark=None), basis())
        assert (finding.kind, finding.go_on) == (Kind.CUT, 3)
        # Stored, and not committed when the worker was killed.
        finding = judge_log(log(end=80, committed=80, at_mark=None), basis())
        assert finding.kind is Kind.CUT
        assert "11 records" in finding.lost

    def test_without_a_basis_the_committed_offset_tells_as_much(self):
        assert judge_log(log(end=90, at_mark=None), None).kind is Kind.CUT
        assert judge_log(log(begin=110, end=120, at_mark=None), None).kind is Kind.DELETED

    @pytest.mark.parametrize(
        ("seen", "why"),
        [
            (log(topic_id="id-2", at_mark=OTHER), "its id is another"),
            (log(0, 0, None, None, topic_id="id-2"), "the log is empty now"),
            (log(0, 3, None, None, topic_id="id-2"), "offsets 0 to 2"),
            (log(at_mark=OTHER, topic_id=""), "another record is at offset 90"),
            (log(at_mark=Mark(93, 0, b"")), "the record at offset 90 that was processed is gone"),
            (log(at_mark=None), "the record at offset 90 that was processed is gone"),
        ],
    )
    def test_another_log_of_the_same_name_is_recognised(self, seen, why):
        finding = judge_log(seen, basis())
        assert (finding.kind, finding.go_on) == (Kind.REPLACED, 0)
        assert why in finding.lost
        assert "replays" in finding.lost


class TestTheShop:
    def test_the_same_is_fine(self):
        assert not list(judge_shop(basis(), Shop(4, "EUR", "Europe/Berlin", TOPICS)))

    @pytest.mark.parametrize(
        ("shop", "kind", "remedy"),
        [
            (Shop(8, "EUR", "Europe/Berlin", TOPICS), Kind.PARTITIONS, "clv partitions grow 8"),
            (Shop(2, "EUR", "Europe/Berlin", TOPICS), Kind.PARTITIONS, "with 4 partitions"),
        ],
    )
    def test_another_is_told_with_what_to_do(self, shop, kind, remedy):
        [finding] = judge_shop(basis(), shop)
        assert finding.kind is kind
        assert remedy in finding.remedy

    def test_topics_that_grow_beside_the_worker_are_named(self):
        known = {"shop.orders": 4, "clv.clock": 4}
        assert not list(judge_growth(known, {"shop.orders": 4}))
        [finding] = judge_growth(known, {"shop.orders": 8, "clv.clock": 4})
        assert "shop.orders from 4 to 8" in finding.lost
        assert "clv partitions grow 8" in finding.remedy


class TestTheState:
    COMMITTED: ClassVar = {TP("shop.orders", 0): 7, TP("shop.support", 0): 0}

    def test_none_at_all_with_processed_events_is_lost(self):
        for stored, what in ((None, "is missing"), ({0: 0, 1: 0}, "is empty")):
            finding = judge_state("changelog", stored, self.COMMITTED)
            assert finding.kind is Kind.STATE
            assert what in finding.lost
            assert "shop.orders[0] to 7" in finding.lost
            assert "--rebuild" in finding.remedy

    def test_before_the_first_event_there_is_nothing_to_lose(self):
        assert judge_state("changelog", None, {}) is None
        assert judge_state("changelog", {0: 0}, {TP("shop.orders", 0): 0}) is None

    def test_a_partition_may_be_empty_where_others_are_not(self):
        assert judge_state("changelog", {0: 0, 1: 3}, self.COMMITTED) is None

    def test_one_partition_without_state_among_others_with_a_basis_is_lost(self):
        assert judge_partition(TP("changelog", 0), {TP("shop.orders", 0): 0}) is None
        finding = judge_partition(TP("changelog", 0), self.COMMITTED)
        assert (finding.kind, finding.place) == (Kind.STATE, "changelog[0]")

    def test_a_changelog_that_was_made_anew_is_recognised(self):
        held = basis(topics={"changelog": "id-1"})
        assert judge_changelog("changelog", "id-1", held) is None
        assert judge_changelog("changelog", "", held) is None
        assert judge_changelog("changelog", "id-2", basis()) is None
        assert judge_changelog("changelog", "id-2", held).kind is Kind.STATE

    def test_a_missing_input_is_lost_if_anything_was_read_of_it(self):
        topics = ["shop.orders", "shop.support"]
        assert not list(judge_missing(topics, {TP("shop.orders", 0): 0}, [basis(marks={})]))
        [finding] = judge_missing(topics, {TP("shop.orders", 0): 1}, [])
        assert (finding.kind, finding.place) == (Kind.REPLACED, "shop.orders")
        # Kafka forgets a topic's offsets with the topic.
        [finding] = judge_missing(topics, {}, [basis()])
        assert finding.place == "shop.orders"


class TestTheRecord:
    def test_it_comes_back_as_it_was(self):
        held = basis(
            generations={"shop.orders/2": 1}, first_version=9, committed={"shop.orders/2": 4},
            accepted=[Accepted(1, "cut", "shop.orders[2]", "5 records", "read again")],
        )  # fmt: skip
        assert decode_basis(encode_basis(held), 3) == held

    def test_a_newer_or_damaged_one_is_refused(self):
        data = encode_basis(basis())
        with pytest.raises(UnreadableRecord, match=r"basis of partition 3 .* newer version"):
            decode_basis(bytes([SCHEMA_VERSION + 1]) + data[1:], 3)
        for damaged in (b"", data[:-1], data[:1] + b"\xc1"):
            with pytest.raises(
                UnreadableRecord, match=r"basis of partition 3.*restore the changelog"
            ):
                decode_basis(damaged, 3)

    def test_adopting_fills_in_what_was_not_known_and_keeps_the_rest(self):
        shop = Shop(4, "EUR", "Europe/Berlin", TOPICS)
        assert adopt(None, shop, {"a": "1"}, ["a", "b"]).topics == {"a": "1", "b": ""}
        held = basis(topics={"a": "1"}, first_version=5)
        assert adopt(held, shop, {"a": "", "b": "2"}, ["a", "b"]).topics == {"a": "1", "b": "2"}
        assert adopt(held, shop, {}, ["a"]) == held


def test_the_text_of_a_refusal_names_everything_and_each_remedy_once():
    found = [judge_log(log(end=95, committed=at), basis()) for at in (100, 101)]
    text = str(BasisLost(found))
    assert text.count("shop.orders[2]: ") == 2
    assert text.count("To do: ") == 1
