"""Past and future of a customer, against the engine on what happened until then."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.past import known_since, state_at
from models.aggregate.record import decode_record
from models.calendar import milliseconds
from models.context import Context
from models.economics import Economics
from models.engine import advance
from models.outlook import history, outlook, past_moments
from streams.batch import fold_events, score_states
from streams.files.outgoing import cloud_event

START = datetime(2026, 1, 3, 10, tzinfo=UTC)
END = START + timedelta(days=120)
CONTEXT = Context(Economics(), erasure_key=b"k" * 32)


def event(kind, number, at, **data):
    name, field = {
        "order.placed": ("orders", "placed_at"), "order.cancelled": ("orders", "cancelled_at"),
        "order.refunded": ("orders", "refunded_at"), "ticket.opened": ("support", "opened_at"),
        "ticket.resolved": ("support", "resolved_at"),
        "customer.acquired": ("customers", "acquired_at"),
    }[kind]  # fmt: skip
    if kind in ("order.placed", "customer.acquired"):
        data["customer_id"] = "anna"
    return cloud_event(
        name, kind, source="/shop", event_id=f"{kind}/{number}", time=at, customer_id="anna",
        data={field: at, **data},
    )  # fmt: skip


@st.composite
def lives(draw):
    """Events of one customer within a hundred days, in order of time."""
    events = []
    for number in range(draw(st.integers(1, 8))):
        at = START + timedelta(hours=draw(st.integers(0, 2_000)))
        cents = draw(st.integers(100, 90_000))
        cost = draw(st.sampled_from([None, cents // 2, 2 * cents]))
        costs = {} if cost is None else {"cost_of_goods": f"{cost / 100:.2f}"}
        events.append(
            event(
                "order.placed", number, at, order_id=f"o{number}", currency="USD",
                total=f"{cents / 100:.2f}", **costs,
            )
        )  # fmt: skip
        later = at + timedelta(hours=draw(st.integers(1, 300)))
        after = draw(st.sampled_from(["", "refund", "cancel", "ticket"]))
        if after == "refund":
            events.append(
                event(
                    "order.refunded", number, later, refund_id=f"r{number}", order_id=f"o{number}",
                    currency="USD", amount=f"{cents / 200:.2f}",
                )
            )  # fmt: skip
        elif after == "cancel":
            events.append(event("order.cancelled", number, later, order_id=f"o{number}"))
        elif after == "ticket":
            events += [
                event("ticket.opened", number, later, ticket_id=f"t{number}", channel="phone"),
                event(
                    "ticket.resolved", number, later + timedelta(hours=30), ticket_id=f"t{number}",
                    handling_minutes=draw(st.integers(1, 90)),
                ),
            ]  # fmt: skip
    return sorted(events, key=lambda each: each.time)


def record_of(events, before=END):
    folded = fold_events(events, CONTEXT, before)
    ((key, data),) = folded.states.items()
    return decode_record(data, key)


@given(lives(), st.integers(1, 119))
def test_a_past_day_is_worth_what_the_engine_made_of_the_events_until_then(events, days):
    moment = START + timedelta(days=days)
    until = [each for each in events if each.time <= moment]
    if not until:
        return
    states = fold_events(until, CONTEXT, END).states
    (engine,) = score_states(states, CONTEXT, moment)
    (past,) = history(record_of(events), [milliseconds(moment)], CONTEXT)
    assert past.clv == engine.clv
    assert past.realised + past.expected == pytest.approx(past.clv, abs=1e-9)


@given(lives(), st.integers(1, 400))
def test_a_day_to_come_is_worth_what_a_tick_would_make_of_the_customer(events, days):
    record = record_of(events)
    record.as_of = milliseconds(END)
    found = outlook(record, CONTEXT, days=days).days
    begins = Economics().day_begins(Economics().day(record.as_of) + days)
    assert found[-1].as_of == begins
    states = fold_events(events, CONTEXT, END).states
    (engine,) = score_states(states, CONTEXT, datetime.fromtimestamp(begins / 1000, UTC))
    assert found[-1].clv == engine.clv
    alive = [day.p_alive for day in found]
    if alive[0] is not None:
        assert alive == sorted(alive, reverse=True)


def test_the_day_of_the_next_segment_is_the_first_on_which_a_tick_changes_it():
    events = [
        event("order.placed", n, START + timedelta(days=20 * n), order_id=f"o{n}", currency="USD",
              total="40.00")
        for n in range(4)
    ]  # fmt: skip
    states = fold_events(events, CONTEXT, END).states

    def ticked(states, moment):
        """The record and the segments after a tick."""
        outputs = advance(states, list(states), "clock/0", moment, CONTEXT, as_of=moment)
        ((key, data),) = outputs.records.items()
        return {key: data}, dict(outputs.updates[0].segments)

    stored, now = ticked(states, milliseconds(START + timedelta(days=61)))
    ((key, data),) = stored.items()
    turns = {turn.dimension: turn for turn in outlook(decode_record(data, key), CONTEXT).turns}
    assert {name: turn.segment for name, turn in turns.items()} == now
    changing = [turn for turn in turns.values() if turn.at is not None]
    assert "lifecycle" in {turn.dimension for turn in changing}
    for turn in changing:
        assert ticked(stored, turn.at)[1][turn.dimension] == turn.next
        assert ticked(stored, turn.at - 1)[1][turn.dimension] == turn.segment


def test_a_history_begins_where_the_sums_end():
    context = Context(Economics(remembered=3), erasure_key=b"k" * 32)
    events = [
        event("order.placed", n, START + timedelta(days=n), order_id=f"o{n}", currency="USD",
              total="10.00")
        for n in range(10)
    ]  # fmt: skip
    ((key, data),) = fold_events(events, context, END).states.items()
    record = decode_record(data, key)
    record.as_of = milliseconds(START + timedelta(days=20))
    since = known_since(record.aggregate)
    assert since == milliseconds(START + timedelta(days=6))
    moments = past_moments(record, context.economics)
    assert min(moments) >= since
    assert max(moments) == record.as_of
    with pytest.raises(ValueError, match="known from"):
        state_at(record.aggregate, since - 1)
    for worth, moment in zip(history(record, moments, context), moments, strict=True):
        until = [each for each in events if milliseconds(each.time) <= moment]
        states = fold_events(until, context, END).states
        (engine,) = score_states(states, context, datetime.fromtimestamp(moment / 1000, UTC))
        assert worth.clv == engine.clv


@pytest.mark.parametrize(("days", "step"), [(100, 1), (500, 7), (3000, 28)])
def test_the_moments_of_a_history_are_bounded_and_in_order(days, step):
    record = record_of([event("order.placed", 1, START, order_id="o", currency="USD", total="9")])
    record.as_of = milliseconds(START + timedelta(days=days))
    moments = past_moments(record, Economics())
    assert moments == sorted(set(moments))
    assert 70 <= len(moments) <= 120
    # The first one is that of the order.
    assert moments[0] == milliseconds(START)
    gaps = [(b - a) / 86_400_000 for a, b in pairwise(moments[1:-1])]
    assert step <= min(gaps) <= max(gaps) <= 31
