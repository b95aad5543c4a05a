"""The population in few bytes says what the states say, now and of earlier days."""

import random
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.fold import fold
from models.aggregate.past import known_before
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.economics import Economics
from models.population import MASK_DAYS, Population
from models.value import columns, value_row

from .events import START, cancelled, milliseconds, opened, placed, refunded

CONFIG = Economics(remembered=8)
FIRST = START.date().toordinal()


def state_of(days, *more, config=CONFIG):
    state = Aggregate()
    for event in (*(placed(f"o{n}", day) for n, day in enumerate(days)), *more):
        fold(state, event, config)
    return state


def population_of(states, config=CONFIG):
    found = Population(config)
    for number, state in enumerate(states):
        found.put(str(number).encode(), state)
    return found


def test_columns_are_those_of_the_states_as_of_a_day():
    states = [
        state_of([0, 3, 3, 40], refunded("r", 41, "10.00", order_id="o3")),
        state_of([7], opened("t", 9)),
        state_of([], opened("t", 9)),
        state_of([1, 2], cancelled("o1", 3)),
    ]
    today = FIRST + 90
    by_hand = columns([value_row(Summary(each, CONFIG), today, CONFIG) for each in states])
    found = population_of(states).columns(today)
    for name in by_hand._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(by_hand, name), err_msg=name)


@given(
    st.lists(st.lists(st.integers(0, 200), max_size=30), max_size=6),
    st.integers(0, MASK_DAYS),
)
def test_an_earlier_day_is_as_it_was_then(histories, back):
    latest = max((day for days in histories for day in days), default=0)
    cut = latest - back
    config = Economics(remembered=2_000)
    found = population_of([state_of(days, config=config) for days in histories], config)
    seen = found.at(FIRST + cut)
    expected = []
    for days in histories:
        then = sorted({day for day in days if day <= cut})
        if then:
            after = len({day for day in days if day > cut})
            expected.append((len(then) - 1, then[-1] - then[0], cut - then[0], after))
    assert list(zip(*(column.tolist() for column in seen), strict=True)) == expected


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 40), max_size=8), st.lists(st.integers(0, 45))),
        max_size=6,
    ),
    st.integers(0, 45),
)
def test_complaints_of_an_earlier_day_are_those_of_the_states_of_then(people, day):
    config = Economics(remembered=2_000)
    states = [
        state_of(days, *(opened(f"t{n}", at, complaint=True) for n, at in enumerate(late)),
                 config=config)
        for days, late in people
    ]  # fmt: skip
    found = population_of(states, config)
    then = [known_before(state, milliseconds(day + 0.5)) for state in states]
    rows = [value_row(Summary(each, config), FIRST + day, config) for each in then if each.orders]
    followed = found.followed(FIRST + day, found.at(FIRST + day))
    for name in followed._fields:
        assert getattr(followed, name).tolist() == [getattr(row, name) for row in rows]
    for number in range(len(states)):
        found.remove(str(number).encode())
    assert not found.complained


def test_the_halves_of_what_was_paid_by_hand():
    days = [0, 1, 1, 5, 9, 30]  # Five of them: three early ones with four orders.
    config = Economics(remembered=2_000)
    found = population_of(
        [
            state_of(days, config=config),
            state_of([0, 1, 2, 3], config=config),
            state_of(days, cancelled("o0", 40), config=config),
            state_of(days, refunded("r", 31, "40.00", order_id="o5"), config=config),
        ],
        config,
    )
    halves = found.halves(FIRST + 40)
    assert [column.tolist() for column in halves] == [[3], [160], [2], [80]]
    assert found.halves(FIRST + 29).days.size == 0


def test_many_come_and_go_and_leave_no_trace():
    dice = random.Random(3)
    states = [state_of([number % 50]) for number in range(300)]
    found, known = Population(CONFIG), {}
    for _ in range(2_000):
        key, state = dice.randrange(150), dice.choice(states)
        if dice.random() < 0.4:
            found.remove(str(key).encode())
            known.pop(key, None)
        else:
            found.put(str(key).encode(), state)
            known[key] = state
    assert len(found) == len(known)
    today = FIRST + 60
    mine = sorted(found.columns(today).T.tolist())
    assert mine == sorted(float(today - Summary(each, CONFIG).first_day) for each in known.values())
    assert found.last_day() == max(Summary(each, CONFIG).last_day for each in known.values())
    found.remove(b"nobody")


def test_nobody_is_a_population_too():
    empty = Population(CONFIG)
    assert len(empty) == 0
    assert empty.last_day() == 0
    assert empty.columns(date(2026, 1, 1).toordinal()).orders.size == 0
    assert empty.at(FIRST).x.size == 0
    assert pytest.approx(0) == empty.at(FIRST).after.sum()
