"""The value of a silent customer is published again when it has moved, or after some time."""

import json
from datetime import datetime
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.aggregate.record import decode_record
from models.aggregate.summary import Summary
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.outbox import DeliveryState
from models.refresh import Refresh
from models.segments import NO_RULES
from models.value import value_row, values

from .events import milliseconds
from .parameters import PARAMETERS
from .test_catching_up import said
from .test_engine import store

NOW = milliseconds(2_000)
DAYS = 70
"""How long customers are silent."""
FALLING = PARAMETERS.model_copy(update={"contacts_per": "purchase"})
"""With these, values only fall."""


def context_of(refresh, economics=None):
    return Context(economics or Economics(), FALLING, NO_RULES, refresh=refresh)


def orders(days):
    return [said(number, "order.placed", "c1", day, number) for number, day in enumerate(days)]


def silence(context, history, sweeps):
    """Publish, then sweep at these moments; return the updates of the silence, and the state."""
    states, offsets, found = {}, count(), []
    store(states, process(states, "shop.orders/0", history, context, now=NOW))
    for moment in sweeps:
        outputs = advance(
            states, [b"c1"], "clv.clock/0", next(offsets), context, as_of=moment, due_only=True
        )
        store(states, outputs)
        found += [json.loads(each.document) for each in outputs.updates]
    return found, states


def midnights(economics, first, days):
    day = economics.day(first)
    return [economics.day_begins(day + number) for number in range(1, days + 1)]


def naive(context, state, day, days):
    """On which of the days after a day the value is published again, each scored on its own."""
    economics, refresh = context.economics, context.refresh
    summary = Summary(state, economics)
    rows = [value_row(summary, day + number, economics) for number in range(days + 1)]
    scored = values(rows, FALLING, economics)
    step = refresh.share * max(abs(scored.clv[0]), abs(scored.expected[0]))
    steps = [int(abs(each - scored.clv[0]) / step + 1e-9) for each in scored.clv.tolist()]
    return [
        (number, float(scored.clv[number]))
        for number in range(1, days + 1)
        if number % refresh.days == 0 or steps[number] != steps[number - 1]
    ]


@settings(max_examples=15)
@given(
    days=st.lists(st.integers(0, 1_600).map(lambda n: n / 4), min_size=1, max_size=8).map(sorted),
    share=st.sampled_from([0.02, 0.1, 0.5]),
    period=st.sampled_from([1, 7, 30, 60]),
    zone=st.sampled_from(["UTC", "America/Sao_Paulo"]),
)
def test_it_is_published_on_the_days_on_which_it_has_moved_or_time_has_passed(
    days, share, period, zone
):
    context = context_of(Refresh(share=share, days=period), Economics(timezone=zone))
    economics, last = context.economics, milliseconds(days[-1])
    first = economics.day(last)
    found, states = silence(context, orders(days), midnights(economics, last, DAYS))
    state = decode_record(states[b"c1"]).aggregate
    told = [
        (economics.day(milliseconds_of(each["time"])) - first, each["data"]["clv"])
        for each in found
    ]
    assert told == naive(context, state, first, DAYS)
    assert [each["id"] for each in found] == [
        f"c1/{len(days)}.{milliseconds_of(each['time'])}" for each in found
    ]


def milliseconds_of(time):
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def test_who_is_swept_late_has_the_value_of_the_last_day_on_which_it_was_due():
    context = context_of(Refresh())
    last = milliseconds(300)
    daily, _ = silence(context, orders([0, 20, 300]), midnights(Economics(), last, 365))
    late, _ = silence(context, orders([0, 20, 300]), midnights(Economics(), last, 365)[-1:])
    assert len(daily) > 12
    assert late == daily[-1:]


def test_without_it_nothing_is_published_in_silence():
    found, _ = silence(context_of(None), orders([0, 20]), midnights(Economics(), 0, 365))
    assert found == []


def test_what_may_not_have_been_delivered_is_sent_again_as_it_was():
    context, last = context_of(Refresh()), milliseconds(300)
    sweeps = midnights(Economics(), last, 30)
    found, states = silence(context, orders([0, 20, 300]), sweeps)
    again = advance(
        states,
        [b"c1"],
        "clv.clock/0",
        len(sweeps) - 1,
        context,
        as_of=sweeps[-1],
        due_only=True,
        delivery_of=lambda _origin, _offset: DeliveryState.UNKNOWN,
    )
    assert milliseconds_of(found[-1]["time"]) == sweeps[-1]
    assert [json.loads(each.document) for each in again.updates] == found[-1:]


def test_an_event_begins_a_silence_anew():
    context = context_of(Refresh())
    states = silence(context, orders([0, 20]), midnights(Economics(), milliseconds(20), 35))[1]
    assert decode_record(states[b"c1"]).refreshed
    event = said(9, "order.placed", "c1", 60, 9)
    outputs = process(states, "shop.orders/0", [event], context, now=NOW)
    store(states, outputs)
    assert not decode_record(states[b"c1"]).refreshed
    (update,) = (json.loads(each.document) for each in outputs.updates)
    assert update["id"] == "c1/3"


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.5}, {"days": 0}, {"daily": 1}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        Refresh.model_validate(wrong)
