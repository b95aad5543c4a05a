"""A state as it was before a time is the state of the events of before."""

from hypothesis import given
from hypothesis import strategies as st

from models.aggregate.fold import fold
from models.aggregate.past import known_before, times_of
from models.aggregate.state import Aggregate
from models.economics import Economics

from .events import cancelled, milliseconds, opened, placed, refunded, resolved

CONFIG = Economics()

EVENTS = {
    "an order": (1, placed("a", 1)),
    "a complaint": (2, opened("t", 2)),
    "what it took": (5, resolved("t", 5)),
    "a ticket that is only resolved": (3, resolved("u", 3)),
    "another order": (4, placed("b", 4)),
    "a refund": (6, refunded("r", 6, "10.00", order_id="a")),
    "a cancellation": (7, cancelled("b", 7)),
    "the order moves": (8, placed("c", 8, revision=1)),
    "and back": (3, placed("c", 3, revision=2)),
}


@given(st.sets(st.sampled_from(sorted(EVENTS))), st.integers(0, 10))
def test_it_is_the_state_of_the_events_of_before(names, day):
    told = [EVENTS[name] for name in sorted(names)]
    whole, before = Aggregate(), Aggregate()
    for at, event in told:
        fold(whole, event, CONFIG)
        if at < day:
            fold(before, event, CONFIG)
    time = milliseconds(day)
    assert known_before(whole, time) == before
    assert any(each < time for each in times_of(whole)) == (before != Aggregate())
