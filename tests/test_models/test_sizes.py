"""However much is sent, a state stays within its share of what a record may have."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.acceptance import LARGEST_AMOUNT, too_old
from models.aggregate import entries
from models.aggregate.absorb import absorb
from models.aggregate.cancellations import MOST_WAITING
from models.aggregate.erase import without
from models.aggregate.fold import Effect, fold, merge
from models.aggregate.join import MOST_ACQUISITIONS
from models.aggregate.record import CustomerRecord, decode_record, encode_record
from models.aggregate.settle import CEILING, LONGEST_WINDOW
from models.aggregate.state import (
    Acquisition,
    Aggregate,
    DayTotals,
    Opened,
    Order,
    Rated,
    Refund,
    Resolved,
    Settled,
    Survey,
    Ticket,
)
from models.aggregate.summary import Summary
from models.aggregate.versions import MOST_SUPERSEDED
from models.contracts.fields import LATEST
from models.economics import MONEY_SCALE, MOST_REMEMBERED, Economics

from .events import (
    acquired,
    cancelled,
    event,
    events,
    milliseconds,
    opened,
    placed,
    rated,
    refunded,
    resolved,
)

SHARE = 5 * 1024 * 1024 // 4
"""Bytes of a record that are the aggregate's."""

TIME = round(LATEST.timestamp() * 1000)
DAY = LATEST.toordinal()
MONEY = LARGEST_AMOUNT * MONEY_SCALE
SURVEYS = ("csat", "ces", "nps")


def full(remembered):
    """A state with all registers full, and every number as long as it can be."""

    def keys(count):
        return range(2**63 - count, 2**63)

    order = Order(2**63 - 1, TIME, MONEY, MONEY, DAY)
    opening, resolution = Opened(TIME, 5, True, DAY), Resolved(TIME, MONEY, 10_000_000, DAY)
    ticket = Ticket(opening, resolution, Rated(TIME, 1.0, DAY))
    totals = [CEILING] * len(DayTotals.__struct_fields__)
    settled = Settled(*[(TIME, 2**63 - 1)] * 3, *[CEILING] * 15)
    settled.days = {DAY - n: DayTotals(*totals) for n in range(LONGEST_WINDOW)}
    settled.cancelled = dict.fromkeys(keys(remembered), TIME)
    settled.cancellations_until = TIME
    return Aggregate(
        orders=dict.fromkeys(keys(remembered), order),
        cancelled=dict.fromkeys(keys(remembered + MOST_WAITING), TIME),
        refunds=dict.fromkeys(keys(remembered), Refund(TIME, 2**63 - 1, MONEY, MONEY, DAY)),
        tickets=dict.fromkeys(keys(2 * remembered), ticket),
        surveys=dict.fromkeys(SURVEYS, Survey(TIME, 1.0)),
        acquisitions=dict.fromkeys(keys(MOST_ACQUISITIONS), Acquisition(TIME, MONEY)),
        settled=settled,
        superseded=dict.fromkeys(keys(remembered), (order,) * MOST_SUPERSEDED),
    )


def test_the_largest_state_that_may_be_configured_fits_its_share():
    most = full(MOST_REMEMBERED)
    size = len(msgspec.msgpack.encode(most))
    assert size < SHARE
    assert decode_record(encode_record(CustomerRecord(most))).aggregate == most
    with pytest.raises(ValueError, match=str(MOST_REMEMBERED)):
        Economics(remembered=MOST_REMEMBERED + 1)


def test_the_usual_memory_takes_less_than_a_fifth_of_it():
    assert len(msgspec.msgpack.encode(full(Economics().remembered))) < SHARE / 5


def check_bounds(state, remembered):
    """No register holds more than `full` has of it."""
    settled = state.settled or Settled()
    assert len(state.orders) <= remembered
    assert state.superseded.keys() <= state.orders.keys()
    assert all(len(versions) <= MOST_SUPERSEDED for versions in state.superseded.values())
    assert len(state.cancelled) <= remembered + MOST_WAITING
    assert len(state.refunds) <= remembered
    assert len(state.tickets) <= 2 * remembered
    assert state.surveys.keys() <= set(SURVEYS)
    assert len(state.acquisitions) <= MOST_ACQUISITIONS
    assert len(settled.days) <= LONGEST_WINDOW
    assert len(settled.cancelled) <= remembered


_steps = st.one_of(
    *[st.tuples(st.just("event"), st.integers(0, 1), events())] * 6,
    st.tuples(st.just("erase"), st.integers(0, 1), st.integers(0, 225)),
    st.tuples(st.just("absorb"), st.integers(0, 1), st.none()),
    st.tuples(st.just("merge"), st.integers(0, 1), st.none()),
)


@given(st.lists(_steps, max_size=50), st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_registers_stay_bounded_whatever_happens(steps, remembered):
    config = Economics(remembered=remembered)
    states = [Aggregate(), Aggregate()]
    for step, which, what in steps:
        state, other = states[which], states[1 - which]
        if step == "event":
            fold(state, what, config)
        elif step == "erase":
            states[which] = without(state, milliseconds(what))
        else:
            states[which] = (absorb if step == "absorb" else merge)(state, other, config)
        check_bounds(states[which], remembered)
        entries_in_order(states[which])


def entries_in_order(state):
    times = {
        "orders": entries.order_time, "cancelled": int, "refunds": entries.refund_time,
        "tickets": entries.ticket_time, "acquisitions": entries.acquisition_time,
    }  # fmt: skip
    for name, time_of in times.items():
        held = getattr(state, name)
        assert list(held) == list(entries.in_order(held, time_of)), name
    if state.settled is not None:
        assert list(state.settled.days) == sorted(state.settled.days)


def test_full_states_that_merge_stay_full_and_readable():
    config = Economics(remembered=30)
    state = full(30)
    other = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Aggregate)
    for _ in range(5):
        state = absorb(state, other, config)
        check_bounds(state, 30)
        assert decode_record(encode_record(CustomerRecord(state))).aggregate == state
    assert state.settled.gross == CEILING


def test_acquisitions_are_as_many_as_are_remembered_and_each_is_still_corrected():
    config = Economics()
    state = Aggregate()
    for n in range(MOST_ACQUISITIONS):
        assert fold(state, acquired(f"c{n}", n), config) is Effect.APPLIED
    one_more = acquired("one-more", 5_000)
    assert fold(state, one_more, config) is Effect.TOO_OLD
    assert "as many as are remembered" in str(too_old(one_more, config).detail)
    assert fold(state, acquired("c5", 5), config) is Effect.DUPLICATE
    assert fold(state, acquired("c5", 2_000, "6.00"), config) is Effect.APPLIED
    assert Summary(state, config).acquisition_cost == (MOST_ACQUISITIONS * 5 + 1) * 10_000
    other = Aggregate()
    fold(other, acquired("c5", 4_000, "8.00"), config)
    fold(other, acquired("old", 0), config)
    assert len(merge(state, other, config).acquisitions) == MOST_ACQUISITIONS


KINDS = {
    "orders": lambda n: [placed(f"o{n}", n / 9)],
    "cancelled": lambda n: [placed(f"o{n}", n / 9), cancelled(f"o{n}", n / 9 + 1)],
    "refunds": lambda n: [refunded(f"r{n}", n / 9, "1")],
    "tickets": lambda n: [
        opened(f"t{n}", n / 9), resolved(f"t{n}", n / 9 + 0.1), rated(f"t{n}", n / 9 + 0.2),
    ],
    "surveys": lambda n: [event("survey.answered", {
        "survey_id": str(n), "answered_at": f"2026-01-01T00:{n // 60 % 60:02}:{n % 60:02}Z",
        "kind": SURVEYS[n % 3], "score": 5, "scale": {"min": 0, "max": 10},
    })],
    "acquisitions": lambda n: [acquired(f"c{n}", n / 9)],
}  # fmt: skip


def sorted_entries(history, config, monkeypatch):
    """How many entries were sorted while these events were folded."""
    counted = []
    plain = entries.in_order

    def counting(held, time_of):
        counted.append(len(held))
        return plain(held, time_of)

    monkeypatch.setattr(entries, "in_order", counting)
    state = Aggregate()
    for each in history:
        fold(state, each, config)
    monkeypatch.setattr(entries, "in_order", plain)
    return sum(counted)


@pytest.mark.parametrize("kind", KINDS)
def test_events_in_the_order_of_time_are_appended_and_nothing_is_sorted(kind, monkeypatch):
    history = [each for n in range(600) for each in KINDS[kind](n)]
    assert sorted_entries(history, Economics(remembered=50), monkeypatch) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_out_of_order_sorts_no_more_than_what_is_remembered(kind, monkeypatch):
    remembered = 50
    history = [each for n in reversed(range(600)) for each in KINDS[kind](n)]
    most = MOST_ACQUISITIONS if kind == "acquisitions" else 2 * remembered + 1
    total = sorted_entries(history, Economics(remembered=remembered), monkeypatch)
    assert total <= most * len(history)


def test_records_of_before_are_read():
    """Fields were added at the end, to the aggregate and to its sums."""
    config = Economics(remembered=2)
    state = Aggregate()
    for n in range(5):
        fold(state, placed(f"o{n}", n), config)
    former = msgspec.to_builtins(state)[:7]
    former[6] = former[6][:19]
    assert len(former[6]) == 19
    data = bytes([2]) + msgspec.msgpack.encode([former, 5, 7])
    record = decode_record(data)
    assert (record.aggregate, record.version, record.as_of) == (state, 5, 7)
