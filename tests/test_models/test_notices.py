"""Notices: what is suspicious about events that count is said once, and changes nothing."""

from itertools import permutations

import pytest

from models.aggregate.fold import Effect, fold
from models.aggregate.record import decode_record
from models.aggregate.state import Aggregate
from models.context import Context
from models.contracts import NOTICES, Reason
from models.economics import Economics
from models.engine import process

from .events import KafkaRecord, at, body, event, milliseconds, placed, refunded
from .parameters import PARAMETERS

NOW = milliseconds(1_000)
CONFIG = Economics(exchange_rates={"EUR": "1.1"})
CONTEXT = Context(CONFIG, PARAMETERS, erasure_key=b"s" * 32)
USD = {"currency": "USD"}


def order(total="40.00", order_id="o1", days=1, **more):
    data = {"order_id": order_id, "customer_id": "c1", "placed_at": at(days), "total": total}
    return "order.placed", data | USD | more


def refund(refund_id, amount, order_id="o1", days=2, **more):
    data = {"refund_id": refund_id, "order_id": order_id, "refunded_at": at(days)}
    return "order.refunded", data | USD | {"amount": amount} | more


def cancellation(days=3, order_id="o1"):
    return "order.cancelled", {"order_id": order_id, "cancelled_at": at(days)}


def processed(*events, states=None, first=0):
    """The outputs of the engine, and the states afterwards."""
    states = {} if states is None else dict(states)
    records = [
        KafkaRecord(first + n, NOW, b"c1", body(kind, data))
        for n, (kind, data) in enumerate(events)
    ]
    outputs = process(states, "shop.orders/0", records, CONTEXT, now=NOW)
    assert outputs.dead_letters == []
    counted = outputs.accepted + outputs.duplicates + outputs.replayed
    assert counted == len(events) == outputs.taken
    states |= outputs.records
    return outputs, states


def notices(*events):
    outputs, _ = processed(*events)
    return [(each.record.offset, each.refused.reason.value) for each in outputs.notices]


class TestAmbiguous:
    @pytest.mark.parametrize(("first", "second"), [("40.00", "45.00"), ("45.00", "40.00")])
    def test_an_order_said_twice_in_the_same_words_with_another_total_is_noticed(
        self, first, second
    ):
        outputs, states = processed(order(first), order(second))
        [notice] = outputs.notices
        refused = notice.refused
        assert (refused.reason, refused.field) == (Reason.AMBIGUOUS, "data.order_id")
        counts = "this one counts" if second == "45.00" else "the other one counts"
        assert counts in refused.detail
        assert "a later time or a higher revision" in refused.detail
        assert (outputs.accepted, outputs.duplicates) == ((2, 0) if second == "45.00" else (1, 1))
        _, others = processed(order(second), order(first))
        assert decoded(states).orders == decoded(others).orders

    @pytest.mark.parametrize(
        "change",
        [{"revision": 1}, {"days": 2}, {"total": "40.00"}, {"channel": "web"}, {"order_id": "o2"}],
        ids=str,
    )
    def test_what_can_be_told_apart_or_says_the_same_is_not(self, change):
        other = {"total": "40.00" if change.keys() & {"total", "channel"} else "45.00"}
        assert notices(order(), order(**(other | change))) == []
        assert notices(order(**(other | change)), order()) == []

    @pytest.mark.parametrize(
        "change", [{"currency": "EUR"}, {"cost_of_goods": "5.00"}, {"total": "39.99"}], ids=str
    )
    def test_all_that_is_counted_is_compared(self, change):
        assert notices(order(), order(**change)) == [(1, "ambiguous")]

    def test_the_same_revision_twice_is_noticed_and_a_later_word_settles_it(self):
        first, second = order("40.00", revision=1), order("45.00", revision=1)
        assert notices(first, second) == [(1, "ambiguous")]
        assert notices(first, second, order("44.00", revision=2), first) == [(1, "ambiguous")]
        assert notices(order("44.00", revision=2), first, second) == []

    def test_one_notice_for_one_arriving_event(self):
        greater, less = order("45.00"), order("40.00")
        assert notices(less, greater, greater, less, greater) == [
            (1, "ambiguous"), (3, "ambiguous"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("kind", "data", "change"),
        [
            (*refund("r", "5.00"), {"amount": "6.00"}),
            ("ticket.opened", {"ticket_id": "t", "opened_at": at(1), "channel": "web"},
             {"channel": "phone"}),
            ("ticket.resolved", {"ticket_id": "t", "resolved_at": at(1), "handling_minutes": 1},
             {"handling_minutes": 2}),
            ("ticket.rated", {"ticket_id": "t", "rated_at": at(1), "score": 1,
                              "scale": {"min": 1, "max": 5}}, {"score": 2}),
            ("customer.acquired", {"customer_id": "c1", "acquired_at": at(1), "cost": "5.00",
                                   "currency": "USD"}, {"cost": "6.00"}),
        ],
    )  # fmt: skip
    def test_other_events_about_one_thing_too(self, kind, data, change):
        one, other = (kind, data), (kind, data | change)
        for first, second in ((one, other), (other, one)):
            outputs, _ = processed(first, second)
            [notice] = outputs.notices
            assert notice.refused.reason is Reason.AMBIGUOUS
            time = next(name for name in data if name.endswith("_at"))
            assert f"the same {time} and the same time" in notice.refused.detail
        assert notices(one, one) == []


class TestRefundsBeyondTheTotal:
    def test_are_noticed_with_both_amounts_and_what_to_do(self):
        outputs, _ = processed(order(), refund("r1", "30.00"), refund("r2", "30.5"))
        [notice] = outputs.notices
        assert notice.record.offset == 2
        assert (notice.refused.reason, notice.refused.field) == (
            Reason.REFUND_BEYOND_TOTAL, "data.amount",
        )  # fmt: skip
        assert notice.refused.detail.startswith(
            "refunds of order 'o1' come to 60.50 USD together, more than its total of 40.00 USD; "
            "all of them count"
        )
        assert outputs.accepted == 3

    def test_in_any_order_of_arrival_the_last_event_has_a_notice(self):
        events = [order(), refund("r1", "30.00"), refund("r2", "30.00")]
        for arrived in permutations(events):
            assert notices(*arrived) == [(2, "refund-beyond-total")]

    def test_a_full_refund_is_none_and_another_currency_is_not_compared(self):
        assert notices(order(), refund("r1", "40.00")) == []
        assert notices(order(), refund("r1", "400.00", currency="EUR")) == []
        assert notices(order(), refund("r1", "400.00", order_id="other")) == []
        credit = "order.refunded", {
            "refund_id": "r1", "refunded_at": at(2), "amount": "400.00", **USD,
        }  # fmt: skip
        assert notices(order(), credit) == []

    def test_a_revision_that_lowers_the_total_may_bring_it_about(self):
        lower = order("20.00", revision=1)
        assert notices(order(), refund("r1", "30.00"), lower) == [(2, "refund-beyond-total")]
        outputs, _ = processed(order(), refund("r1", "30.00"), lower)
        assert outputs.notices[0].refused.field == "data.total"

    def test_refunds_of_a_cancelled_order_are_void_and_not_noticed(self):
        assert notices(order(), cancellation(), refund("r1", "50.00")) == []
        again = order(days=4)
        assert notices(order(), cancellation(), refund("r1", "50.00"), again) == [
            (3, "refund-beyond-total")
        ]

    def test_a_corrected_refund_ends_it(self):
        event_time = at(9)
        kind, data = refund("r1", "30.00")
        later = body(kind, data).replace(b'"data"', b'"time": "%s", "data"' % event_time.encode())
        _, states = processed(order(), refund("r1", "50.00"))
        record = KafkaRecord(2, NOW, b"c1", later)
        outputs = process(states, "shop.orders/0", [record], CONTEXT, now=NOW)
        assert (outputs.accepted, outputs.notices) == (1, [])


def decoded(states):
    return decode_record(states[b"c1"]).aggregate


def test_a_record_that_is_read_again_has_no_notice_again():
    events = [order(), refund("r1", "50.00"), order("45.00")]
    outputs, states = processed(*events)
    assert len(outputs.notices) == 2
    again, after = processed(*events, states=states)
    assert (again.notices, again.replayed) == ([], 3)
    assert after == states


def test_batches_of_any_size_have_the_same_notices():
    events = [order(), refund("r1", "50.00"), order("45.00"), refund("r2", "1.00"), order("44.00")]
    whole = notices(*events)
    states, parts = {}, []
    for number, each in enumerate(events):
        outputs, states = processed(each, states=states, first=number)
        parts += [(n.record.offset, n.refused.reason.value) for n in outputs.notices]
    assert parts == whole


def test_events_with_a_notice_fold_as_before():
    events = [
        placed("o1", 1, "40.00"),
        placed("o1", 1, "45.00"),
        refunded("r1", 2, "50.00", order_id="o1"),
        refunded("r1", 2, "60.00", order_id="o1"),
        event("order.cancelled", cancellation()[1]),
    ]
    found = set()
    for arrived in permutations(events):
        state = Aggregate()
        for each in arrived:
            fold(state, each, CONFIG)
        for each in arrived:
            assert not fold(state, each, CONFIG).changed
        found.add(repr(state))
    assert len(found) == 1


def test_an_effect_changes_the_state_or_not():
    assert {effect for effect in Effect if effect.changed} == {
        Effect.APPLIED, Effect.APPENDED, Effect.CONTESTED,
    }  # fmt: skip
    assert {reason.value for reason in NOTICES} == {"ambiguous", "refund-beyond-total"}
