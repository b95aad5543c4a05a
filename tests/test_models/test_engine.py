"""The engine: nothing vanishes, batches do not matter, replays change nothing."""

import gc
import itertools
import json
import re
import weakref

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import decode_record
from models.context import Context
from models.contracts import Reason
from models.contracts.outputs import SegmentChanged, ValueUpdated
from models.economics import Economics
from models.engine import advance, process
from models.outbox import DeliveryState
from models.recent import Recent
from models.routing import route_header
from models.segments import DEFAULT_RULES

from .events import KafkaRecord, at, body, events, milliseconds
from .parameters import PARAMETERS

CONTEXT = Context(Economics(), PARAMETERS)
NOW = milliseconds(1_000)
ORIGIN = "shop.orders/0"
MINUS_ZERO = re.compile(rb":-0\.0[,}]")


def order(offset, customer, days, order_id=None, total="40.00", key=..., **more):
    data = {
        "customer_id": customer,
        "order_id": order_id or f"o{offset}",
        "placed_at": at(days),
        "currency": "USD",
        "total": total,
        **more,
    }
    data = {name: value for name, value in data.items() if value is not None}
    own = customer.encode() if customer is not None else None
    return KafkaRecord(
        offset, milliseconds(days), own if key is ... else key, body("order.placed", data)
    )


def store(states, outputs):
    for key, record in outputs.records.items():
        if record is None:
            states.pop(key, None)
        else:
            states[key] = record


def unknown(_origin, _offset):
    return DeliveryState.UNKNOWN


def run(records, context=CONTEXT, states=None, cuts=(), role=None, **more):
    """Process records in batches that end at the cuts; returns states, outputs of each batch."""
    states = {} if states is None else states
    outputs, origin = [], ORIGIN if role is None else f"{role}/0"
    bounds = [0, *sorted(cuts), len(records)]
    for start, end in itertools.pairwise(bounds):
        rest = records[start:end]
        while True:
            batch = process(states, origin, rest, context, now=NOW, role=role, **more)
            store(states, batch)
            outputs.append(batch)
            rest = rest[batch.taken :]
            if not rest:
                break
    return states, outputs


def without_outboxes(states):
    """The records without what the last batch has to tell, which depends on where it began."""
    records = {key: decode_record(data) for key, data in states.items()}
    return {key: msgspec.structs.replace(record, outbox=()) for key, record in records.items()}


def as_records(sequence):
    return [
        KafkaRecord(n, NOW, key, event.model_dump_json().encode())
        for n, (key, event) in enumerate(sequence)
    ]


keyed_events = st.lists(st.tuples(st.sampled_from([b"c1", b"c2"]), events()), max_size=30)


def rekeyed(key, event):
    """The same event as one of another customer."""
    data = event.data.model_copy(update={"customer_id": key.decode()})
    return event.model_copy(update={"data": data})


@given(keyed_events, st.lists(st.integers(0, 30), max_size=6))
@settings(max_examples=100, deadline=None)
def test_states_and_segment_changes_do_not_depend_on_where_batches_end(sequence, cuts):
    records = as_records([(key, rekeyed(key, event)) for key, event in sequence])
    whole_states, whole = run(records)
    cut_states, parts = run(records, cuts=[min(cut, len(records)) for cut in cuts])
    assert without_outboxes(cut_states) == without_outboxes(whole_states)
    changes = [change for part in parts for change in part.segment_changes]
    assert sorted(changes) == sorted(whole[0].segment_changes)
    assert sum(part.accepted for part in parts) == whole[0].accepted


@given(keyed_events, st.lists(st.integers(0, 30), max_size=6), st.integers(0, 2_000))
@settings(max_examples=100, deadline=None)
def test_customers_that_stay_decoded_come_to_the_same(sequence, cuts, most_bytes):
    records = as_records([(key, rekeyed(key, event)) for key, event in sequence])
    cuts = [min(cut, len(records)) for cut in cuts]
    recent = Recent(most_bytes)
    # Compared as texts: an exception, such as a notice's, equals only itself.
    assert repr(run(records, cuts=cuts, recent=recent)) == repr(run(records, cuts=cuts))


def test_a_customer_is_decoded_again_where_another_record_is_stored():
    recent = Recent()
    late = order(1, "c1", 2)
    states, _ = run([order(0, "c1", 1)])
    before = dict(states)
    run([late], states=states, recent=recent)
    assert len(recent) == 1
    # What was stored last is lost with the worker that stored it.
    assert run([late], states=dict(before), recent=recent) == run([late], states=dict(before))
    run([late], states=before, recent=recent)
    other, again = order(2, "c1", 3), Context(Economics(margin=0.5), PARAMETERS)
    assert len(recent) == 1
    assert run([other], again, dict(before), recent=recent) == run([other], again, dict(before))


@given(keyed_events)
@settings(max_examples=60, deadline=None)
def test_a_replay_changes_nothing_and_sends_the_same_values_again(sequence):
    records = as_records([(key, rekeyed(key, event)) for key, event in sequence])
    states, first = run(records)
    again_states, again = run(records, states=dict(states), delivery_of=unknown)
    assert again_states == states
    assert again[0].accepted == 0
    assert again[0].segment_changes == first[0].segment_changes
    assert again[0].replayed + again[0].duplicates == len(records)
    resent = {update.key: update.document for update in again[0].updates}
    assert resent == {update.key: update.document for update in first[0].updates}


@given(keyed_events)
@settings(max_examples=60, deadline=None)
def test_what_is_published_keeps_its_contract(sequence):
    records = as_records([(key, rekeyed(key, event)) for key, event in sequence])
    for context in (CONTEXT, Context(Economics())):
        _, [outputs] = run(records, context)
        for update in outputs.updates:
            document = ValueUpdated.model_validate_json(update.document).data
            assert document.customer_id == update.customer_id
            assert document.version == update.version
            assert document.clv == pytest.approx(
                document.realised.total + document.expected.total, abs=1e-9
            )
            assert not MINUS_ZERO.search(update.document)
        for _key, change in outputs.segment_changes:
            SegmentChanged.model_validate_json(change)
            assert not MINUS_ZERO.search(change)


def test_nothing_is_published_as_minus_zero():
    """-0.0 and 0.0 are equal: written differently, one would stand for the other later."""
    refund = {"refund_id": "r", "order_id": "gone", "refunded_at": at(1), "currency": "USD"}
    # Without an order, 0 purchases are expected, at a margin that the refund makes negative.
    lossy = KafkaRecord(0, NOW, b"c1", body("order.refunded", {**refund, "amount": "9000"}))
    _, [outputs] = run([lossy])
    [update] = outputs.updates
    assert json.loads(update.document)["data"]["realised"]["margin"] < 0
    assert not MINUS_ZERO.search(update.document)


def test_every_record_is_accounted_for():
    records = [
        order(0, "c1", 0),
        order(1, "c1", 0, order_id="o0"),
        order(2, None, 1),
        order(3, "c2", 1, key=b"c3"),
        order(4, "c2", 1, key=None),
        KafkaRecord(5, NOW, b"c1", b"not json"),
        KafkaRecord(6, NOW, b"c1", None),
    ]
    _, [outputs] = run(records)
    assert (outputs.accepted, outputs.duplicates) == (1, 1)
    strays = [(stray.key, stray.record.offset) for stray in outputs.rerouted]
    assert strays == [(b"c2", 3), (b"c2", 4)]
    assert outputs.reasons() == {"missing-customer": 1, "not-json": 1, "empty": 1}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (order(0, "c1", 5)._replace(timestamp=milliseconds(3)), Reason.FUTURE),
        (order(0, "c1", 1_002)._replace(timestamp=-1), Reason.FUTURE),
        (order(0, "c1", 1_002)._replace(timestamp=milliseconds(2_000)), Reason.FUTURE),
        (order(0, "c1", 0, currency="EUR"), Reason.NO_EXCHANGE_RATE),
        (order(0, "c1", 0, total="-1"), Reason.INVALID_FIELD),
    ],
)
def test_what_cannot_be_accepted_is_refused_in_words(record, reason):
    states, [outputs] = run([record])
    assert states == {}
    [letter] = outputs.dead_letters
    assert letter.refused.reason is reason
    assert letter.record is record
    assert len(letter.refused.detail) > 20


def test_an_amount_that_explodes_when_converted_is_refused():
    context = Context(Economics(exchange_rates={"EUR": "1000000"}))
    _, [outputs] = run([order(0, "c1", 0, total="999999999", currency="EUR")], context)
    assert outputs.reasons() == {"invalid-field": 1}


def test_hostile_amounts_never_overflow_the_stored_integers():
    context = Context(Economics(exchange_rates={"EUR": "10"}, remembered=1))
    states = {}
    for start in range(0, 3_000, 1_000):
        records = [
            order(n, "c1", n / 100, total="999999999.9999", currency="EUR")
            for n in range(start, start + 1_000)
        ]
        run(records, context, states)
    assert decode_record(states[b"c1"]).version == 3_000


def test_time_passing_scores_everybody_as_of_that_time_and_only_once():
    history = [order(n, "c1", n * 10) for n in range(4)]
    states, _ = run([*history, order(4, "c2", 10)])
    as_of = milliseconds(600)
    later = advance(states, list(states), "clv.clock/0", 7, CONTEXT, as_of=as_of)
    documents = {u.customer_id: json.loads(u.document)["data"] for u in later.updates}
    assert documents["c1"]["statistics"] == {
        "frequency": 3, "recency": 30, "T": 600, "monetary_value": 40.0,
    }  # fmt: skip
    assert documents["c1"]["segments"]["lifecycle"] == "lost"
    assert documents["c2"]["segments"]["lifecycle"] == "at risk"
    states.update(later.records)
    again = advance(
        states, list(states), "clv.clock/0", 7, CONTEXT, as_of=as_of, delivery_of=unknown
    )
    assert again.records == {}
    assert again.segment_changes == later.segment_changes
    assert [u.document for u in again.updates] == [u.document for u in later.updates]


def test_a_refused_record_leaves_nothing_behind_when_its_letter_is_let_go():
    """Batches that wait for the garbage collector are memory that grows."""
    gc.collect()
    gc.disable()
    try:
        outputs = process({}, ORIGIN, [KafkaRecord(0, NOW, b"c1", b"junk")], CONTEXT, now=NOW)
        assert outputs.reasons() == {"not-json": 1}
        letters = weakref.ref(outputs.dead_letters[0].refused)
        del outputs
        assert letters() is None
    finally:
        gc.enable()


def test_history_that_is_loaded_changes_segments_once_at_its_end():
    history = [order(n, "c1", n * 10) for n in range(40)]
    states, [loading] = run(history, role="backfill")
    assert loading.segment_changes == []
    [update] = [json.loads(update.document) for update in loading.updates]
    ValueUpdated.model_validate(update)
    assert update["data"]["backfill"] is True
    assert update["data"]["segments"] == {}
    later = advance(states, list(states), "clv.clock/0", 0, CONTEXT, as_of=milliseconds(391))
    changes = [json.loads(change)["data"] for _, change in later.segment_changes]
    assert [change["dimension"] for change in changes] == list(DEFAULT_RULES.by_name)
    assert {change["previous"] for change in changes} == {None}
    straight, _ = run([order(n, "c1", n * 10) for n in range(40)])
    expected = advance(straight, [b"c1"], "clv.clock/0", 0, CONTEXT, as_of=milliseconds(391))
    assert later.updates == expected.updates
    # Loaded again it is known, and changes nothing.
    states.update(later.records)
    again = [order(n + 40, "c1", n * 10, order_id=f"o{n}") for n in range(40)]
    _, [outputs] = run(again, states=states, role="backfill")
    assert (outputs.duplicates, outputs.records, outputs.updates) == (40, {}, [])


def test_a_live_event_tells_what_the_loaded_history_has_changed():
    states, _ = run([order(0, "c1", 300)])
    before = decode_record(states[b"c1"]).segments
    _, [loading] = run(
        [order(n + 1, "c1", n * 10, order_id=f"old{n}") for n in range(20)],
        states=states,
        role="backfill",
    )
    assert loading.segment_changes == []
    assert decode_record(states[b"c1"]).segments == before
    _, [live] = run([order(21, "c1", 310)], states=states)
    changes = [json.loads(change)["data"] for _, change in live.segment_changes]
    assert {change["previous"] for change in changes} <= set(before.values())
    [behaviour] = [change for change in changes if change["dimension"] == "behaviour"]
    assert behaviour["previous"] == "one-time"
    assert "backfill" not in json.loads(live.updates[0].document)["data"]


def test_a_header_that_once_marked_history_hides_nothing():
    marked = [order(n, "c1", n * 10)._replace(headers=(("clv.backfill", b"1"),)) for n in range(4)]
    plain = [order(n, "c1", n * 10) for n in range(4)]
    assert run(marked)[1][0].segment_changes == run(plain)[1][0].segment_changes != []


def test_misrouted_history_is_history_at_home_too():
    states = {}
    [misrouted] = process(
        states, "backfill/0", [order(0, "c1", 10)], CONTEXT, now=NOW, role="backfill",
        at_home=lambda _key: False,
    ).rerouted  # fmt: skip
    assert misrouted.route.backfill
    record = KafkaRecord(0, NOW, b"c1", misrouted.record.value, (route_header(misrouted.route),))
    outputs = process(states, "rerouted/0", [record], CONTEXT, now=NOW, role="rerouted")
    assert outputs.segment_changes == []
    assert json.loads(outputs.updates[0].document)["data"]["backfill"] is True


def test_a_segment_change_says_what_decided():
    states, _ = run([order(n, "c1", n * 10) for n in range(4)])
    later = advance(states, [b"c1"], "clv.clock/0", 0, CONTEXT, as_of=milliseconds(600))
    changes = [json.loads(change)["data"] for _, change in later.segment_changes]
    *_, change = [c for c in changes if c["dimension"] == "lifecycle"]
    assert (change["previous"], change["current"]) == ("at risk", "lost")
    assert change["reason"]["rule"] == "lost"
    assert change["reason"]["values"]["p_purchase"] < 0.1
    assert change["clv_before"] > change["clv_after"]


def test_an_order_a_larger_one_and_its_refund_count_as_one_repeat_purchase():
    refund = {"refund_id": "r", "refunded_at": at(9), "currency": "USD", "amount": "60"}
    records = [
        order(0, "c1", 0, total="50"),
        order(1, "c1", 8, total="60"),
        KafkaRecord(2, NOW, b"c1", body("order.refunded", {"order_id": "o1", **refund})),
    ]
    _, [outputs] = run(records)
    data = json.loads(outputs.updates[0].document)["data"]
    assert data["statistics"]["frequency"] == 1
    assert data["statistics"]["monetary_value"] == 60.0
    assert data["totals"]["refunded"] == 60.0


def test_a_negative_value_is_told_as_it_is():
    acquired = {
        "customer_id": "c1", "acquired_at": at(0), "cost": "500", "currency": "USD",
    }  # fmt: skip
    records = [
        order(0, "c1", 0),
        KafkaRecord(1, NOW, b"c1", body("customer.acquired", acquired)),
    ]
    _, [outputs] = run(records)
    data = json.loads(outputs.updates[0].document)["data"]
    assert data["realised"] == {
        "margin": 12.0, "cost_to_serve": 0.0, "acquisition_cost": 500.0, "total": -488.0,
    }  # fmt: skip
    assert data["clv"] < 0


def test_states_are_read_and_never_written():
    states, _ = run([order(0, "c1", 0)])
    before = dict(states)
    process(states, ORIGIN, [order(1, "c1", 1)], CONTEXT, now=NOW)
    advance(states, [b"c1"], "clv.clock/0", 0, CONTEXT, as_of=NOW)
    assert states == before
