"""Every update says what has moved the value since the last one; the parts add up."""

import json
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import decode_record
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts.outputs import ValueUpdated
from models.economics import Economics
from models.engine import advance, process
from models.outbox import DeliveryState
from models.refresh import Refresh
from models.segments import DEFAULT_RULES
from models.timeline import Timeline
from models.value import value_row, values

from .events import START, milliseconds
from .parameters import PARAMETERS
from .test_catching_up import END, LATER, histories, said
from .test_engine import store

PARTS = ("event", "time", "model", "rules_or_rates", "merge")
ECONOMICS = Economics()
CONTEXT = Context(
    ECONOMICS,
    Timeline().with_(PARAMETERS).with_(LATER),
    DEFAULT_RULES,
    refresh=Refresh(),
    explained=True,
)
NOW = milliseconds(END)


def updates(outputs):
    found = [json.loads(each.document) for each in outputs.updates]
    for each in found:
        ValueUpdated.model_validate(each)
    return found


def take(states, record, context=CONTEXT):
    outputs = process(states, "shop.orders/0", [record], context, now=NOW)
    store(states, outputs)
    (update,) = updates(outputs)
    return update["data"]


def sweep(states, days, number, context=CONTEXT, **more):
    outputs = advance(
        states,
        list(states),
        "clv.clock/0",
        number,
        context,
        as_of=milliseconds(days),
        due_only=True,
        **more,
    )
    store(states, outputs)
    return updates(outputs)


@settings(max_examples=40)
@given(
    history=histories(),
    cuts=st.sets(st.integers(0, 14)),
    sweeps=st.lists(st.floats(0, END), max_size=5),
)
def test_the_parts_of_each_update_lead_from_the_last_one_to_this_one(history, cuts, sweeps):
    states, last, offsets, waiting = {}, {}, count(), []

    def look(found):
        for each in found:
            data = each["data"]
            moved, customer = data["moved"], data["customer_id"]
            if customer in last:
                assert moved["from"] == last[customer]
                assert moved["to"] == data["clv"]
                total = moved["from"] + sum(moved[part] for part in PARTS)
                assert total == pytest.approx(data["clv"], abs=1e-9)
            else:
                assert moved is None
            last[customer] = data["clv"]

    def flush():
        outputs = process(states, "shop.orders/0", waiting, CONTEXT, now=NOW)
        assert outputs.taken == len(waiting)
        store(states, outputs)
        waiting.clear()
        look(updates(outputs))

    moments = sorted(sweeps)
    for number, (day, record) in enumerate(history):
        while moments and moments[0] <= day:
            flush()
            look(sweep(states, moments.pop(0), next(offsets)))
        waiting.append(record)
        if number in cuts:
            flush()
    flush()
    for day in [*moments, END]:
        look(sweep(states, day, next(offsets)))


def scored(state, days, parameters=PARAMETERS, economics=ECONOMICS):
    """The value of a state as of a day, computed on its own."""
    row = value_row(Summary(state, economics), economics.day(milliseconds(days)), economics)
    return float(values([row], parameters, economics).clv[0])


def state_of(states, key=b"c1"):
    return decode_record(states[key]).aggregate


def order(number, days, customer="c1"):
    return said(number, "order.placed", customer, days, number)


def test_time_passes_before_an_event_comes():
    states = {}
    first = take(states, order(0, 0))
    before = scored(state_of(states), 40)
    second = take(states, order(1, 40))
    assert second["moved"] == {
        "from": first["clv"],
        "to": second["clv"],
        "event": pytest.approx(second["clv"] - before),
        "time": pytest.approx(before - first["clv"]),
        "model": 0.0,
        "rules_or_rates": 0.0,
        "merge": 0.0,
    }
    assert second["moved"]["time"] < 0 < second["moved"]["event"]


def test_parameters_that_came_into_force_have_a_part_of_their_own():
    states = {}
    first = take(states, order(0, 290))
    former, latter = (scored(state_of(states), 310, of) for of in (PARAMETERS, LATER))
    assert LATER.holds_from == START + timedelta(days=300, hours=5)
    moved = take(states, order(1, 310))["moved"]
    assert moved["time"] == pytest.approx(former - first["clv"])
    assert moved["model"] == pytest.approx(latter - former) != 0
    assert moved["rules_or_rates"] == 0


def test_a_margin_that_was_configured_since_then_has_a_part_of_its_own():
    states, other = {}, Economics(margin=0.6)
    first = take(states, order(0, 0))
    as_configured = scored(state_of(states), 0, economics=other)
    context = Context(other, PARAMETERS, DEFAULT_RULES, explained=True)
    moved = take(states, order(1, 5), context)["moved"]
    assert moved["rules_or_rates"] == pytest.approx(as_configured - first["clv"]) != 0


def test_a_silence_is_moved_by_time_alone():
    states = {}
    first = take(states, order(0, 0))
    found = [each["data"]["moved"] for day in range(1, 60) for each in sweep(states, day, day)]
    assert [each["from"] for each in found] == [first["clv"], *(each["to"] for each in found[:-1])]
    for each in found:
        assert each["time"] == pytest.approx(each["to"] - each["from"])
        assert {each[part] for part in PARTS if part != "time"} == {0.0}


def test_what_is_sent_again_says_the_same():
    states = {}
    take(states, order(0, 0))
    told = take(states, order(1, 40))
    outputs = process(
        states,
        "shop.orders/0",
        [order(1, 40)],
        CONTEXT,
        now=NOW,
        delivery_of=lambda _origin, _offset: DeliveryState.UNKNOWN,
    )
    assert [each["data"] for each in updates(outputs)] == [told]


def test_it_is_left_out_where_it_is_turned_off():
    states, context = {}, Context(ECONOMICS, PARAMETERS, DEFAULT_RULES)
    take(states, order(0, 0), context)
    assert "moved" not in take(states, order(1, 40), context)
