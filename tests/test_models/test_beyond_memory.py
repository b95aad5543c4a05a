"""Beyond the memory nothing is guessed: what cannot be told from a duplicate is refused."""

import random
import re

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.acceptance import too_old
from models.aggregate.absorb import absorb
from models.aggregate.compacted import Compacted
from models.aggregate.fold import Effect, fold, merge
from models.aggregate.state import Aggregate
from models.aggregate.summary import SUMS, Summary
from models.aggregate.windows import rolling_windows
from models.contracts import Reason
from models.economics import Economics

from .events import acquired, cancelled, milliseconds, opened, placed, rated, refunded, resolved

EVERYTHING = Economics()
FEW = Economics(remembered=4)
TODAY = EVERYTHING.day(milliseconds(300))


def folded(sequence, config=FEW):
    state = Aggregate()
    for event in sequence:
        fold(state, event, config)
    return state


def said(state, config=FEW):
    """Everything that value and segments are computed from."""
    summary = Summary(state, config)
    # Which orders were returned, and what a complaint followed, is known of what is remembered.
    names = set(SUMS) - {"returned", "complained"}
    numbers = {name: getattr(summary, name) for name in names}
    return numbers, rolling_windows(state, TODAY, config)


def copied(state):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Aggregate)


# What the contracts say of times: an order and a refund keep theirs, whatever else is edited, a
# refund is not earlier than its order, and a ticket's opening not later than what follows it.


def _order(number):
    return number * 2.0


def _ticket(number):
    return number * 3.0


_numbers = st.integers(0, 11)
_later = st.integers(0, 40)
_happenings = st.one_of(
    st.builds(
        lambda n, total, revision: placed(f"o{n}", _order(n), f"{total}.5", revision=revision),
        _numbers, st.integers(0, 90), st.integers(0, 2),
    ),
    st.builds(lambda n, more: cancelled(f"o{n}", _order(n) + more), _numbers, _later),
    st.builds(
        lambda n, part, amount: refunded(
            f"r{n}/{part}", _order(n) + part * 5, f"{amount}.25", order_id=f"o{n}"
        ),
        _numbers, st.integers(0, 2), st.integers(0, 90),
    ),
    st.builds(lambda n, amount: refunded(f"c{n}", n, f"{amount}"), _numbers, st.integers(0, 9)),
    st.builds(
        lambda n, channel, complaint: opened(f"t{n}", _ticket(n), channel, complaint),
        _numbers, st.sampled_from(["email", "phone"]), st.booleans(),
    ),
    st.builds(
        lambda n, more, minutes: resolved(f"t{n}", _ticket(n) + more, handling_minutes=minutes),
        _numbers, _later, st.integers(0, 30),
    ),
    st.builds(lambda n, more: rated(f"t{n}", _ticket(n) + more), _numbers, _later),
)  # fmt: skip
_histories = st.lists(_happenings, max_size=60)


@given(_histories, st.integers(1, 4))
@settings(max_examples=400, deadline=None)
@example([opened("t0", 0), opened("t1", 3), resolved("t0", 9), opened("t0", 0)], 1)
def test_what_was_accepted_counts_as_if_all_were_remembered(history, remembered):
    config = Economics(remembered=remembered)
    state, everything = Aggregate(), Aggregate()
    for event in history:
        if fold(state, event, config) is not Effect.TOO_OLD:
            fold(everything, event, EVERYTHING)
        assert said(state, config) == said(everything)


@given(_histories, st.integers(1, 4), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_what_is_sent_again_beyond_the_memory_never_counts_again(history, remembered, random_):
    config = Economics(remembered=remembered)
    state = Aggregate()
    accepted = [event for event in history if fold(state, event, config) is not Effect.TOO_OLD]
    before = said(state, config)
    random_.shuffle(accepted)
    for event in accepted:
        fold(state, event, config)
        assert said(state, config) == before


@given(_histories, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_boundaries_only_move_forward_and_registers_stay_small(history, remembered):
    config = Economics(remembered=remembered)
    state = Aggregate()
    last = ((-1, 0),) * 3
    for event in history:
        fold(state, event, config)
        compacted = state.compacted
        now = last
        if compacted is not None:
            now = compacted.orders_until, compacted.refunds_until, compacted.tickets_until
            assert len(compacted.cancelled) <= remembered
        assert all(new >= old for new, old in zip(now, last, strict=True))
        last = now
        assert len(state.orders) <= remembered
        assert len(state.refunds) <= remembered
        assert sum(t.opened is not None for t in state.tickets.values()) <= remembered
        assert sum(t.opened is None for t in state.tickets.values()) <= remembered
        assert len([key for key in state.cancelled if key not in state.orders]) <= remembered


@given(_histories, st.integers(1, 4), st.data())
@settings(max_examples=200, deadline=None)
def test_a_state_and_one_that_continues_it_merge_to_the_latter(history, remembered, data):
    config = Economics(remembered=remembered)
    cut = data.draw(st.integers(0, len(history)))
    state = folded(history[:cut], config)
    earlier = copied(state)
    for event in history[cut:]:
        fold(state, event, config)
    before = said(state, config)
    for pair in ((earlier, state), (state, earlier)):
        merged = merge(*pair, config)
        assert said(merged, config) == before
        assert merged.orders == state.orders
        assert merged.tickets == state.tickets


@given(_histories, _histories, st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_two_customers_who_are_one_count_for_what_both_accepted_and_once(first, second, remembered):
    config = Economics(remembered=remembered)
    everything = Aggregate()
    states = []
    for source, history in (("/eu", first), ("/us", second)):
        state = Aggregate()
        for event in history:
            own = event.model_copy(update={"source": source})
            if fold(state, own, config) is not Effect.TOO_OLD:
                fold(everything, own, EVERYTHING)
        states.append(state)
    one = absorb(*states, config)
    assert said(one, config) == said(everything)
    again = merge(one, states[1], config)
    assert said(again, config) == said(one, config)


def test_tickets_that_come_again_in_any_order_never_count_again():
    shuffle = random.Random(7).shuffle
    history = [opened(f"t{n}", n / 4) for n in range(500)]
    history += [resolved(f"t{n}", n / 4 + 0.1, handling_minutes=9) for n in range(0, 500, 2)]
    shuffle(history)
    state = folded(history, EVERYTHING)
    before = Summary(state, EVERYTHING).contacts
    assert before <= 500
    for _ in range(2):
        shuffle(history)
        for event in history:
            fold(state, event, EVERYTHING)
        assert Summary(state, EVERYTHING).contacts <= 500


def test_a_late_opening_of_a_remembered_ticket_does_not_reopen_the_past():
    state = folded([resolved("late", 9), *(opened(f"t{n}", n) for n in range(1, 8))])
    boundary = state.compacted.tickets_until
    assert fold(state, opened("late", 0), FEW) is Effect.APPLIED
    assert state.compacted.tickets_until == boundary
    contacts = Summary(state, FEW).contacts
    for n in range(1, 4):
        assert fold(state, opened(f"t{n}", n), FEW) is Effect.TOO_OLD
    assert fold(state, opened("late", 0), FEW) is Effect.TOO_OLD
    assert Summary(state, FEW).contacts == contacts == 8


@pytest.mark.parametrize("part", [resolved("t0", 30), rated("t0", 30), resolved("new", 30)])
def test_what_follows_a_ticket_that_may_be_compacted_is_refused(part):
    state = folded([opened(f"t{n}", n) for n in range(9)])
    assert fold(state, part, FEW) is Effect.TOO_OLD
    assert Summary(state, FEW).contacts == 9


def test_tickets_without_their_opening_are_compacted_last_and_raise_the_boundary():
    state = folded([resolved(f"u{n}", n) for n in range(4)] + [opened("t", 1)])
    assert state.compacted is None
    fold(state, opened("u0", 0), FEW)
    assert state.compacted is None
    more = folded([rated("u0", 8), *(resolved(f"u{n}", n) for n in range(5))])
    assert Summary(more, FEW).contacts == 5
    assert more.compacted.contacts == 1
    assert more.compacted.tickets_until[0] == milliseconds(8)
    assert fold(more, opened("u0", 0), FEW) is Effect.TOO_OLD


def test_a_compacted_order_that_was_cancelled_keeps_its_refunds_void():
    history = [placed("a", 0, "100"), cancelled("a", 1)]
    history += [placed(f"o{n}", 2 + n, "1") for n in range(30)]
    state = folded(history)
    assert fold(state, refunded("r", 50, "100", order_id="a"), FEW) is Effect.APPLIED
    assert Summary(state, FEW).refunded == 0
    for n in range(9):
        fold(state, refunded(f"s{n}", 60 + n, "1"), FEW)
    assert Summary(state, FEW).refunded == 90_000


def test_cancellations_are_kept_while_a_remembered_refund_names_them():
    state = folded([
        placed("a", 0, "100"), cancelled("a", 1), refunded("r", 1, "100", order_id="a"),
    ])  # fmt: skip
    for n in range(30):
        fold(state, placed(f"o{n}", 2 + n), FEW)
        fold(state, cancelled(f"o{n}", 3 + n), FEW)
        assert Summary(state, FEW).refunded == 0
    compacted = state.compacted
    assert len(compacted.cancelled) == 4
    assert compacted.cancellations_until == milliseconds(3 + 22)
    # Of an order that is not among the known ones nobody can say whether it was cancelled.
    assert fold(state, refunded("s", 70, "7", order_id="o1"), FEW) is Effect.TOO_OLD
    assert fold(state, refunded("s", 70, "7", order_id="o25"), FEW) is Effect.APPLIED
    assert fold(state, refunded("t", 70, "7", order_id="o29"), FEW) is Effect.APPLIED
    assert fold(state, refunded("u", 70, "7"), FEW) is Effect.APPLIED
    assert Summary(state, FEW).refunded == 70_000


def test_of_cancellations_that_wait_for_their_order_none_is_forgotten():
    state = folded([cancelled(f"o{n}", 20 - n) for n in range(4)])
    assert fold(state, cancelled("o4", 21), FEW) is Effect.TOO_OLD
    for n in range(4):
        fold(state, placed(f"o{n}", n), FEW)
    assert Summary(state, FEW).orders == 0
    assert fold(state, cancelled("o4", 21), FEW) is Effect.APPLIED


def test_a_cancellation_whose_refunds_may_be_compacted_is_refused():
    state = folded([placed("a", 0, "100"), placed("b", 9, "50")])
    for n in range(5):
        fold(state, refunded(f"r{n}", 1 + n, "10", order_id="a"), FEW)
    assert fold(state, cancelled("a", 30), FEW) is Effect.TOO_OLD
    assert fold(state, cancelled("unknown", 30), FEW) is Effect.TOO_OLD
    assert fold(state, cancelled("b", 30), FEW) is Effect.APPLIED
    summary = Summary(state, FEW)
    assert (summary.gross, summary.refunded) == (1_000_000, 500_000)


def test_an_older_version_of_a_remembered_order_is_a_duplicate_wherever_it_lies():
    state = folded([placed("a", 1, revision=1), placed("a", 40, revision=2)])
    for n in range(6):
        fold(state, placed(f"o{n}", 20 + n), FEW)
    assert state.compacted.orders_until[0] > milliseconds(1)
    assert fold(state, placed("a", 1, revision=1), FEW) is Effect.DUPLICATE


def test_versions_that_an_erasure_could_have_brought_back_are_compacted_with_their_order():
    state = folded([placed("a", 30, revision=1), placed("a", 0, revision=2)])
    for n in range(4):
        fold(state, placed(f"o{n}", 1 + n), FEW)
    assert state.superseded == {}
    assert fold(state, placed("a", 30, revision=1), FEW) is Effect.TOO_OLD
    assert fold(state, placed("o3", 4, revision=1), FEW) is Effect.APPLIED
    assert Summary(state, FEW).orders == 5


def test_of_two_states_one_of_which_forgot_cancellations_the_merge_knows_that():
    plain, forgot = folded([placed("a", 0)]), Aggregate(compacted=Compacted(cancellations_until=1))
    for merged in (merge(plain, forgot, FEW), merge(forgot, plain, FEW)):
        assert fold(merged, refunded("r", 9, "5", order_id="b"), FEW) is Effect.TOO_OLD
        assert fold(merged, refunded("r", 9, "5", order_id="a"), FEW) is Effect.APPLIED


def test_an_order_of_both_customers_counts_once_also_within_what_one_has_compacted():
    """It was sent under both ids, and both remember it."""
    first = folded([placed(f"l{n}", n) for n in range(8)])
    second = folded([placed("l7", 7), placed("l1", 1, revision=1)])
    assert Summary(absorb(first, second, FEW), FEW).orders == 9
    later = folded([placed(f"m{n}", 10 + n) for n in range(8)])
    shared = [placed("x", 12), cancelled("x", 13)]
    left, right = folded([*shared, placed("y", 1)]), folded([placed("x", 12), placed("y", 1)])
    one = absorb(absorb(left, later, FEW), right, FEW)
    assert Summary(one, FEW).orders == 10
    assert Summary(absorb(absorb(left, right, FEW), later, FEW), FEW).orders == 9


@pytest.mark.parametrize(
    ("event", "field", "words"),
    [
        (placed("a", 1), "data.placed_at", "not later than orders .* the order of time"),
        (cancelled("a", 1), "data.order_id", "'a'.*publish order.placed first"),
        (refunded("r", 1, "5", order_id="a"), "data.refunded_at", "whether it was cancelled"),
        (opened("t", 1), "data.opened_at", "not later than tickets"),
        (resolved("t", 1), "data.ticket_id", "'t'.*publish ticket.opened first"),
        (rated("t", 1), "data.ticket_id", "'t'.*publish ticket.opened first"),
        (acquired("c9", 1), "data.customer_id", "'c9'.*as many as are remembered"),
    ],
)
def test_a_refusal_says_what_is_not_remembered_and_what_to_do(event, field, words):
    refusal = too_old(event, FEW)
    assert (refusal.reason, refusal.field) == (Reason.BEYOND_MEMORY, field)
    assert re.search(words, refusal.detail)
