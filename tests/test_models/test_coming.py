"""What silence brings is what sweeps tell, each on its day, and not a day earlier."""

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import decode_record
from models.coming import changes_to_come, coming
from models.engine import advance, process
from models.outlook import outlook

from .events import milliseconds
from .test_catching_up import CONTEXTS, END, KEYS, histories, make_small, seldom
from .test_engine import store


def folded(history, context):
    states = {}
    records = [record for _, record in history]
    store(states, process(states, "shop.orders/0", records, context, now=milliseconds(END)))
    return states


def told_by_sweeps(states, context, begin, end):
    """The changes that a sweep on each day tells, of days after the start."""
    states, told, offsets = dict(states), [], count()
    for day in range(begin, end + 1):
        outputs = advance(
            states, KEYS, "clv.clock/0", next(offsets), context, as_of=milliseconds(day),
            due_only=True,
        )  # fmt: skip
        store(states, outputs)
        for key in outputs.records:
            for entry in decode_record(states[key], key).outbox:
                told += [
                    (day, key.decode(), entry.as_of, each.dimension, each.previous, each.current,
                     entry.after)
                    for each in entry.changes
                ]  # fmt: skip
    return told


def facts(changes):
    return [
        (each.customer_id, each.at, each.dimension, each.previous, each.current, each.clv)
        for each in changes
    ]


@pytest.mark.parametrize("name", CONTEXTS)
@settings(max_examples=8)
@given(history=histories(), days=st.integers(0, 300))
def test_what_comes_is_what_daily_sweeps_tell(name, history, days):
    context = CONTEXTS[name]
    states = folded(history, context)
    begin = int(history[-1][0]) + 1
    expected = told_by_sweeps(states, context, begin, begin + days)
    until = milliseconds(begin + days)
    found = list(coming(states, [*states, b"nobody"], context, until))
    assert sorted(facts(found)) == sorted(each[1:] for each in expected)
    for key, data in states.items():
        mine = [each[2:] for each in expected if each[1] == key.decode()]
        alone = changes_to_come(decode_record(data, key), context, until)
        assert [each[1:] for each in facts(alone)] == mine


@pytest.mark.parametrize("name", CONTEXTS)
@settings(max_examples=5)
@given(history=histories())
def test_the_next_change_comes_on_its_day_and_not_a_day_earlier(name, history):
    context = CONTEXTS[name]
    states = folded(history, context)
    now = int(history[-1][0]) + 1
    told = told_by_sweeps(states, context, now, now + 400)
    for key, data in states.items():
        mine = [each for each in told if each[1] == key.decode()]
        record = decode_record(data, key)
        found = outlook(record, context, days=400, now=milliseconds(now))
        first = {}
        for _, _, at, dimension, _, current, _ in mine:
            first.setdefault(dimension, (at, current))
        until = found.days[-1].as_of
        for turn in found.turns:
            expected = first.get(turn.dimension, (None, None))
            if expected[0] is not None and expected[0] <= until:
                assert (turn.at, turn.next) == expected
            else:
                assert turn.at is None
        moments = {turn.at for turn in found.turns if turn.at is not None}
        assert {turn.at for turn in found.due} == ({min(moments)} if moments else set())


def test_of_a_silence_with_more_changes_than_an_outbox_takes_all_are_found(monkeypatch):
    context = CONTEXTS["windows, stays and bounds to leave"]
    states = folded([(30, each) for each in seldom(1)], context)
    until = milliseconds(END)
    expected = list(coming(states, list(states), context, until))
    make_small(monkeypatch, context, 2)
    assert list(coming(states, list(states), context, until)) == expected
    assert len({each.at for each in expected}) > 2
