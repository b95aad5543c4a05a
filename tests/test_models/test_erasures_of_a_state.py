"""An erasure as of T leaves a state as if nothing until then had ever been received."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.cancellations import MOST_WAITING
from models.aggregate.compacted import Compacted
from models.aggregate.fold import Effect, fold, is_empty, merge, milliseconds, without
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.economics import Economics
from models.events.refunds import Refund

from . import events as said
from .events import acquired, cancelled, events, opened, placed, rated, refunded, resolved

CONFIG = Economics()
FEW = Economics(remembered=4)


def lived(sequence, until, erased_after, config=CONFIG):
    """Fold events, with an erasure after some of them, as the engine does."""
    state = Aggregate()
    for number, event in enumerate([*sequence, None]):
        if number == erased_after:
            state = without(state, until)
        if event is not None and (number < erased_after or time_of(event) > until):
            fold(state, event, config)
    return state


def time_of(event):
    return milliseconds(event.data.occurred_at)


def as_bytes(state):
    return msgspec.msgpack.encode(state)


@given(
    st.lists(events(), max_size=25),
    st.integers(0, 900).map(lambda quarter: said.milliseconds(quarter / 4)),
    st.data(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_an_erasure_commutes_with_the_order_of_arrival(sequence, until, data, random_):
    later = lived([event for event in sequence if time_of(event) > until], until, 0)
    doubled = sequence + random_.sample(sequence, len(sequence) // 2)
    random_.shuffle(doubled)
    erased_after = data.draw(st.integers(0, len(doubled)))
    assert as_bytes(lived(doubled, until, erased_after)) == as_bytes(later)


@given(st.lists(events(), max_size=20), st.integers(0, 900), st.data())
@settings(max_examples=100, deadline=None)
def test_an_erasure_of_a_merged_state_is_the_merge_of_erased_states(sequence, quarter, data):
    until = said.milliseconds(quarter / 4)
    cut = data.draw(st.integers(0, len(sequence)))
    left, right = (lived(part, -1, 0) for part in (sequence[:cut], sequence[cut:]))
    merged = without(merge(left, right, CONFIG), until)
    apart = merge(without(left, until), without(right, until), CONFIG)
    assert as_bytes(merged) == as_bytes(apart)


@pytest.mark.parametrize("order", [1, -1])
def test_a_version_that_was_moved_back_in_time_comes_back(order):
    versions = [placed("a", 9, "5", revision=1), placed("a", 1, "7", revision=2)][::order]
    state = lived(versions, said.milliseconds(5), 2)
    assert [(each.revision, each.gross) for each in state.orders.values()] == [(1, 50_000)]
    assert state.superseded == {}


@pytest.mark.parametrize("order", [1, -1])
def test_an_order_cancelled_twice_stays_cancelled_by_the_later_word(order):
    for cancellations in ([cancelled("a", 1), cancelled("a", 9)][::order],):
        state = lived([placed("a", 8), *cancellations], said.milliseconds(5), 3)
        assert Summary(state, CONFIG).orders == 0
        assert state.cancelled


def test_usual_orders_cost_nothing_for_it():
    state = lived([placed("a", 1), placed("a", 1, "7", revision=1), placed("b", 2)], -1, 0)
    assert state.superseded == {}


def test_versions_that_could_come_back_are_few_and_a_further_one_is_refused():
    state = Aggregate()
    for revision in range(5):
        assert fold(state, placed("a", 20 - revision, revision=revision), CONFIG) is not (
            Effect.TOO_OLD
        )
    before = as_bytes(state)
    assert fold(state, placed("a", 10, revision=9), CONFIG) is Effect.TOO_OLD
    assert fold(state, placed("a", 20, revision=0), CONFIG) is Effect.DUPLICATE
    assert as_bytes(state) == before
    # A later one that replaces them all is welcome.
    assert fold(state, placed("a", 30, revision=9), CONFIG) is Effect.APPLIED
    assert state.superseded == {}


def test_compacted_sums_go_as_a_whole_and_later_events_count_again_once():
    history = [placed(f"o{n}", n) for n in range(10)] + [opened(f"t{n}", n) for n in range(10)]
    state = Aggregate()
    for event in history:
        fold(state, event, FEW)
    left = without(state, said.milliseconds(3))
    assert left.compacted is None
    assert Summary(left, FEW).orders == 4
    for event in history * 2:
        if time_of(event) > said.milliseconds(3):
            fold(left, event, FEW)
    summary = Summary(left, FEW)
    assert 4 <= summary.orders <= 6
    assert 4 <= summary.contacts <= 6
    assert is_empty(without(state, said.milliseconds(30)))


def test_cancellations_of_compacted_orders_that_are_later_than_the_erasure_stay():
    state = Aggregate()
    for n in range(8):
        fold(state, placed(f"o{n}", n), FEW)
        fold(state, cancelled(f"o{n}", n + 0.5), FEW)
    left = without(state, said.milliseconds(2.6))
    assert len(left.cancelled) == 5
    fold(left, placed("o3", 3), FEW)
    assert Summary(left, FEW).orders == 0


def test_that_cancellations_were_forgotten_is_known_after_an_erasure_of_before():
    state = Aggregate()
    for n in range(20):
        fold(state, placed(f"o{n}", n), FEW)
        fold(state, cancelled(f"o{n}", n + 0.5), FEW)
    forgotten = state.compacted.cancellations_until
    assert forgotten == said.milliseconds(11.5)
    earlier = without(state, said.milliseconds(5))
    assert fold(earlier, refunded("r", 30, "5", order_id="o8"), FEW) is Effect.TOO_OLD
    assert fold(earlier, refunded("r", 30, "5", order_id="o18"), FEW) is Effect.APPLIED
    assert without(state, forgotten).compacted is None


def test_every_kind_is_left_by_its_own_time():
    early = [
        placed("a", 1), cancelled("b", 1), refunded("r", 1, "1"), opened("t", 1), resolved("u", 1),
        rated("v", 1), acquired("c1", 1),
    ]  # fmt: skip
    late = [
        placed("a2", 9), cancelled("b2", 9), refunded("r2", 9, "1"), opened("t2", 9),
        resolved("u2", 9), rated("v2", 9), acquired("c2", 9),
    ]  # fmt: skip
    assert lived(early + late, said.milliseconds(1), 14) == lived(late, -1, 0)
    assert is_empty(lived(early, said.milliseconds(1), 7))


def test_no_number_of_erasures_lets_cancellations_pile_up():
    time = said.milliseconds(100)
    named = 5
    state = Aggregate(
        cancelled={key: time + key for key in range(1, MOST_WAITING + 10)},
        refunds={key: Refund(time + key, 0, key, 1, 1, 0) for key in range(1, 1 + named)},
        compacted=Compacted(cancelled={10**6: time + 10**6}),
    )
    left = without(state, time)
    assert len(left.cancelled) == MOST_WAITING
    assert {refund.order for refund in left.refunds.values()} <= left.cancelled.keys()
    assert 10**6 in left.cancelled
    assert left.compacted.cancellations_until == time + named + 10
