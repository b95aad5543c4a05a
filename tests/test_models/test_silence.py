"""What silence changes: features move as they say, and days begin when their zone says."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.fold import fold
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.calendar import milliseconds
from models.economics import Economics
from models.features import FEATURES, Measured, Silence
from models.segments.watched import EXPECTATIONS
from models.value import Percentiles, columns, moved, percentiles, value_row, valued, values

from .events import events as any_event
from .parameters import PARAMETERS

ECONOMICS = Economics()
HISTORIES = st.lists(any_event(), max_size=12)


def state_of(history):
    state = Aggregate()
    for event in history:
        fold(state, event, ECONOMICS)
    return state


def at(state, day):
    """All features of a customer as of a day."""
    summary = Summary(state, ECONOMICS)
    value = values([value_row(summary, day, ECONOMICS)], PARAMETERS, ECONOMICS)
    measured = Measured(state, summary, day, ECONOMICS)
    return {
        name: each.dtype(each.of(value)[0] if each.read is None else each.read(measured))
        for name, each in FEATURES.items()
    }


def latest_day(state):
    """The day of the latest entry of a state."""
    entries = [*state.orders.values(), *state.refunds.values(), *state.acquisitions.values()]
    entries += state.surveys.values()
    times = [each.time for each in entries] + [t.first.time for t in state.tickets.values()]
    return ECONOMICS.day(max([*times, *state.cancelled.values()], default=0))


@given(HISTORIES, st.lists(st.integers(0, 500), min_size=1, max_size=6))
def test_each_feature_moves_in_silence_as_it_says(history, ahead):
    state = state_of(history)
    today = latest_day(state)
    summary = Summary(state, ECONOMICS)
    now = at(state, today)
    measured = Measured(state, summary, today, ECONOMICS)
    for name, feature in FEATURES.items():
        steps = sorted(feature.steps(measured)) if feature.steps else []
        assert all(day > today for day in steps)
        assert (feature.silence is Silence.STEPS) == (feature.steps is not None)
        for days in ahead:
            then = at(state, today + days)[name]
            if feature.silence is Silence.STAYS:
                assert then == now[name] or (np.isnan(then) and np.isnan(now[name])), name
            elif feature.silence is Silence.STEPS:
                last = max((day for day in steps if day <= today + days), default=today)
                assert then == at(state, last)[name], name
            elif feature.read is not None:
                assert then == now[name] + days or np.isnan(then), name
                assert feature.way == 1


@given(HISTORIES, st.integers(0, 5_000))
def test_a_moved_row_is_the_row_of_the_later_day(history, days):
    state = state_of(history)
    today = latest_day(state)
    summary = Summary(state, ECONOMICS)
    now = columns([value_row(summary, today, ECONOMICS)])
    then = columns([value_row(summary, today + days, ECONOMICS)])
    assert moved(now, np.array([float(days)])) == then


@given(st.lists(HISTORIES, min_size=1, max_size=5))
def test_percentiles_may_be_computed_later_and_are_the_same_to_the_last_digit(histories):
    states = [state_of(history) for history in histories]
    rows = [value_row(Summary(each, ECONOMICS), latest_day(each), ECONOMICS) for each in states]
    whole = valued(columns(rows), PARAMETERS, ECONOMICS)
    short = valued(columns(rows), PARAMETERS, ECONOMICS, spread=False)
    later = percentiles(columns(rows), short.expected, PARAMETERS, ECONOMICS)
    for name, left in whole._asdict().items():
        right = getattr(later if name in Percentiles._fields else short, name)
        np.testing.assert_array_equal(left, right, name)


@given(st.lists(HISTORIES, min_size=1, max_size=5))
def test_what_takes_no_expectations_is_the_same_without_them(histories):
    states = [state_of(history) for history in histories]
    rows = [value_row(Summary(each, ECONOMICS), latest_day(each), ECONOMICS) for each in states]
    whole = valued(columns(rows), PARAMETERS, ECONOMICS)
    short = valued(columns(rows), PARAMETERS, ECONOMICS, spread=False, expectations=False)
    for feature in FEATURES.values():
        if feature.of is not None and feature.name not in EXPECTATIONS:
            left, right = feature.of(whole), feature.of(short)
            np.testing.assert_array_equal(left, right, feature.name)


@pytest.mark.parametrize(
    "zone",
    ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "Asia/Kolkata"],
)
def test_a_day_begins_at_its_first_moment(zone):
    """Also where clocks are set at midnight, or a day was left out (Samoa, 30 December 2011)."""
    economics = Economics(timezone=zone)
    for ahead in range(1_500):
        day = date(2010, 1, 1) + timedelta(days=ahead)
        begins = economics.day_begins(day.toordinal())
        missing = zone == "Pacific/Apia" and day == date(2011, 12, 30)
        assert economics.day(begins) == day.toordinal() + missing, day
        assert economics.day(begins - 1) < day.toordinal(), day
        assert begins <= milliseconds(datetime.combine(day, datetime.min.time(), ZoneInfo(zone)))


def test_a_day_of_23_hours_and_one_of_25():
    """Clocks are set on 28 March and 31 October 2021."""
    begins = Economics(timezone="Europe/Berlin").day_begins
    lengths = {
        day: (begins(day.toordinal() + 1) - begins(day.toordinal())) / 3_600_000
        for day in (date(2021, 3, 28), date(2021, 10, 31), date(2021, 7, 1))
    }
    assert list(lengths.values()) == [23, 25, 24]
    assert begins(date(2021, 3, 29).toordinal()) == milliseconds(
        datetime(2021, 3, 28, 22, tzinfo=UTC)
    )
