"""A score as of a time uses the parameters that were in force then."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calendar import milliseconds
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.timeline import Timeline, timeline_of

from .events import KafkaRecord, at, body
from .parameters import PARAMETERS

START = datetime(2026, 1, 1, tzinfo=UTC)


def model(version, since=None, **changes):
    """Parameters that hold from so many days after the start."""
    moment = None if since is None else START + timedelta(days=since)
    return PARAMETERS.model_copy(update={"version": version, "holds_from": moment, **changes})


def version_at(timeline, days):
    found = timeline.at(milliseconds(START + timedelta(days=days)))
    return found and found.version


def test_each_holds_from_its_time_to_the_next_whichever_came_first():
    timeline = Timeline().with_(model("c", 60)).with_(model("b", 30))
    assert [version_at(timeline, day) for day in (-900, 29.999, 30, 59.999, 60, 900)] == [
        None, None, "b", "b", "c", "c",
    ]  # fmt: skip
    assert timeline.latest.version == "c"


def test_without_a_time_they_have_always_held_and_the_last_published_wins():
    timeline = timeline_of(model("a")).with_(model("b", 30)).with_(model("a2"))
    assert [version_at(timeline, day) for day in (-900, 29, 30)] == ["a2", "a2", "b"]
    assert version_at(timeline.with_(model("b2", 30)), 31) == "b2"
    assert timeline_of(None).at(0) is None
    assert timeline_of(timeline) is timeline


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(-1, 10))
def test_a_timeline_is_the_last_published_of_the_latest_that_hold(starts, day):
    timeline = Timeline()
    for number, start in enumerate(starts):
        timeline = timeline.with_(model(str(number), start))
    held = [(start, number) for number, start in enumerate(starts) if start <= day]
    assert version_at(timeline, day) == (str(max(held)[1]) if held else None)


def order(number, customer, days):
    content = {
        "customer_id": customer,
        "order_id": f"o{number}",
        "placed_at": at(days),
        "currency": "USD",
        "total": "40.00",
    }
    return KafkaRecord(number, 0, customer.encode(), body("order.placed", content))


def test_a_batch_over_a_change_of_parameters_values_each_customer_by_their_own():
    """As if each were alone, with the parameters of their time, tiers too."""
    low = {"p90": 1.0, "p75": 0.5, "p60": 0.5, "p40": 0.5}
    first = model("first", quantiles={"expected": low, "realised": low})
    second = model("second", 50, purchases=type(PARAMETERS.purchases)(0.5, 20.0, 0.3, 2.0))
    records = [order(n, f"c{n}", n * 10) for n in range(10)]
    now = milliseconds(START + timedelta(days=100))

    def valued(*, by, only=None):
        context = Context(Economics(), by)
        some = [r for r in records if only is None or r.offset in only]
        outputs = process({}, "orders/0", some, context, now=now)
        return {u.customer_id: json.loads(u.document)["data"] for u in outputs.updates}

    both = valued(by=timeline_of(first).with_(second))
    early, late = range(5), range(5, 10)
    apart = valued(by=first, only=early) | valued(by=second.held_always(), only=late)
    assert both == apart
    assert [each["model"]["version"] for each in both.values()] == ["first"] * 5 + ["second"] * 5
    assert both["c0"]["segments"]["tier"] == "gold"
    assert both["c9"]["segments"]["tier"] != "gold"


def test_before_the_first_parameters_the_prior_holds_and_a_later_look_uses_the_later_ones():
    context = Context(Economics(), model("fitted", 50))
    outputs = process(
        {}, "orders/0", [order(0, "c1", 1)], context, now=milliseconds(START + timedelta(days=99))
    )
    assert json.loads(outputs.updates[0].document)["data"]["model"]["version"] == "prior"
    states = {key: record for key, record in outputs.records.items() if record is not None}
    later = advance(
        states, list(states), "clv.clock/0", 0, context,
        as_of=milliseconds(START + timedelta(days=60)),
    )  # fmt: skip
    assert json.loads(later.updates[0].document)["data"]["model"]["version"] == "fitted"


def test_parameters_without_a_time_are_read_as_before():
    former = json.loads(PARAMETERS.model_dump_json())
    del former["holds_from"]
    assert type(PARAMETERS).model_validate(former) == PARAMETERS
    with pytest.raises(ValueError, match="holds_from"):
        type(PARAMETERS).model_validate(former | {"holds_from": "2026-01-01T00:00:00"})
