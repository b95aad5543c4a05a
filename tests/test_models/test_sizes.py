"""However much is sent, a state stays within its share of what a record may have."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.acceptance import LARGEST_AMOUNT, too_old
from models.aggregate import registers
from models.aggregate.absorb import absorb
from models.aggregate.cancellations import MOST_WAITING
from models.aggregate.compacted import (
    CEILING,
    LONGEST_WINDOW,
    MOST_CURRENCIES,
    MOST_MONTHS,
    Compacted,
    DayTotals,
    Money,
    Sale,
)
from models.aggregate.fold import Effect, fold, merge, without
from models.aggregate.record import (
    CustomerRecord,
    MergedCustomer,
    decode_record,
    encode_record,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.aggregate.versions import MOST_SUPERSEDED
from models.aggregate.windows import rolling_windows
from models.calendar import month_of
from models.currencies import CODES, CURRENCIES, HOME, WITHDRAWN
from models.economics import CHANNELS, MONEY_SCALE, MOST_REMEMBERED, Economics
from models.events.acquisitions import (
    ACQUISITIONS,
    LONGEST_CHANNEL,
    MOST_ACQUISITIONS,
    Acquisition,
    kept_channel,
)
from models.events.fields import LATEST
from models.events.orders import ORDERS, Order
from models.events.refunds import REFUNDS, Refund
from models.events.surveys import Survey
from models.events.tickets import TICKETS, Opened, Rated, Resolved, Ticket
from models.identity import Absorb, decode_message

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

SHARE = 11 * 1024 * 1024 // 8
"""Bytes of a record that are the aggregate's."""

TIME = round(LATEST.timestamp() * 1000)
DAY = LATEST.toordinal()
MONEY = LARGEST_AMOUNT * MONEY_SCALE
CURRENCIES_OF_ONE = (HOME, *range(200, 200 + MOST_CURRENCIES))
SURVEYS = ("csat", "ces", "nps")


def full(remembered):
    """A state with all registers full, and every number as long as it can be."""

    def keys(count):
        return range(2**63 - count, 2**63)

    order = Order(2**63 - 1, TIME, -TIME, MONEY, 200, MONEY)
    opening = Opened(TIME, -TIME, 5, True, 2**32 - 1)
    resolution = Resolved(TIME, -TIME, MONEY, 200, 10_000_000)
    ticket = Ticket(opening, resolution, Rated(TIME, -TIME, 1.0))
    money = Money(*[CEILING] * len(Money.__struct_fields__))
    day = DayTotals(CEILING, CEILING, dict.fromkeys(CURRENCIES_OF_ONE, money))
    compacted = Compacted(
        *[(TIME, 2**63 - 1)] * 3,
        *[CEILING] * 4,
        dict.fromkeys(CURRENCIES_OF_ONE, CEILING),
        day.money,
        *[CEILING] * 5,
        dict.fromkeys(range(len(CHANNELS)), CEILING),
    )
    compacted.days = {DAY - n: day for n in range(LONGEST_WINDOW)}
    compacted.cancelled = dict.fromkeys(keys(remembered), TIME)
    compacted.cancellations_until = TIME
    compacted.sold = dict.fromkeys(keys(remembered), Sale(MONEY, 200, MONEY))
    last = month_of(DAY)
    compacted.months = dict.fromkeys(range(last - MOST_MONTHS + 1, last + 1), CEILING)
    return Aggregate(
        orders=dict.fromkeys(keys(remembered), order),
        cancelled=dict.fromkeys(keys(remembered + MOST_WAITING), TIME),
        refunds=dict.fromkeys(keys(remembered), Refund(TIME, -TIME, 2**63 - 1, MONEY, 200, MONEY)),
        tickets=dict.fromkeys(keys(2 * remembered), ticket),
        surveys=dict.fromkeys(SURVEYS, Survey(TIME, -TIME, 1.0)),
        acquisitions=dict.fromkeys(
            keys(MOST_ACQUISITIONS),
            Acquisition(TIME, -TIME, MONEY, 200, kept_channel("é" * LONGEST_CHANNEL)),
        ),
        compacted=compacted,
        superseded=dict.fromkeys(keys(remembered), (order,) * MOST_SUPERSEDED),
    )


def test_the_largest_state_that_may_be_configured_fits_its_share():
    most = full(MOST_REMEMBERED)
    size = len(msgspec.msgpack.encode(most))
    assert size < SHARE
    assert decode_record(encode_record(CustomerRecord(most))).aggregate == most
    with pytest.raises(ValueError, match=str(MOST_REMEMBERED)):
        Economics(remembered=MOST_REMEMBERED + 1)


def test_the_usual_memory_takes_less_than_a_third_of_it():
    assert len(msgspec.msgpack.encode(full(Economics().remembered))) < SHARE / 3


def check_bounds(state, remembered):
    """No register holds more than `full` has of it."""
    compacted = state.compacted or Compacted()
    assert len(state.orders) <= remembered
    assert state.superseded.keys() <= state.orders.keys()
    assert all(len(versions) <= MOST_SUPERSEDED for versions in state.superseded.values())
    assert len(state.cancelled) <= remembered + MOST_WAITING
    assert len(state.refunds) <= remembered
    assert len(state.tickets) <= 2 * remembered
    assert state.surveys.keys() <= set(SURVEYS)
    assert len(state.acquisitions) <= MOST_ACQUISITIONS
    assert len(compacted.days) <= LONGEST_WINDOW
    assert len(compacted.months) <= MOST_MONTHS
    assert len(compacted.cancelled) <= remembered
    assert len(compacted.sold) <= remembered
    for money in (compacted.money, *(day.money for day in compacted.days.values())):
        assert len(money) <= MOST_CURRENCIES + 1


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
        **{kind.field: kind.time_of for kind in (ORDERS, REFUNDS, TICKETS, ACQUISITIONS)},
        "cancelled": int,
    }  # fmt: skip
    for name, time_of in times.items():
        held = getattr(state, name)
        assert list(held) == list(registers.in_order(held, time_of)), name
    if state.compacted is not None:
        assert list(state.compacted.days) == sorted(state.compacted.days)
        assert list(state.compacted.months) == sorted(state.compacted.months)


def test_full_states_that_merge_stay_full_and_readable():
    config = Economics(remembered=30)
    state = full(30)
    other = msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=Aggregate)
    for _ in range(5):
        state = absorb(state, other, config)
        check_bounds(state, 30)
        assert decode_record(encode_record(CustomerRecord(state))).aggregate == state
    assert state.compacted.money[200].gross == CEILING


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
    plain = registers.in_order

    def counting(held, time_of):
        counted.append(len(held))
        return plain(held, time_of)

    monkeypatch.setattr(registers, "in_order", counting)
    state = Aggregate()
    for each in history:
        fold(state, each, config)
    monkeypatch.setattr(registers, "in_order", plain)
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


def test_records_of_schema_2_are_read():
    """They held days, and amounts that had been converted."""
    time, day = milliseconds(3), milliseconds(3) // 86_400_000 + 719_163
    aggregate = [
        {1: [0, time, 400_000, -1, day], 2: [1, time + 1, 500_000, 100_000, day]},
        {2: time + 5},
        {7: [time + 2, 1, 100_000, 0, day]},
        {8: [[time, 1, True, day], [time + 9, -1, 50, day], [time + 9, 0.5, day]]},
        {"nps": [time, 0.9]},
        {9: [time, 30_000]},
        [
            [time - 9, 5], [time - 8, 6], [time - 7, 7], 3, 2, day - 9, day - 1, 600_000, 900_000,
            900_000, 0, 1, 50_000, 10_000, 4, 1, time - 7, 160_000,
            {day - 1: [1, 300_000, 300_000, 0, 50_000, 10_000, 4]}, {11: time}, -1,
        ],
        {},
    ]  # fmt: skip
    record = decode_record(bytes([2]) + msgspec.msgpack.encode([aggregate, 5, 7]))
    handed_over = ["Absorb", "c1", aggregate, 7, [5, time], {}]
    message = decode_message(bytes([1]) + msgspec.msgpack.encode(handed_over))
    assert message == Absorb("c1", record.aggregate, 7, MergedCustomer(5, time), {})
    assert (record.version, record.as_of) == (5, 7)
    state, config = record.aggregate, Economics()
    assert state.orders[1] == Order(0, time, 0, 400_000, HOME, -1)
    assert state.refunds[7] == Refund(time + 2, 0, 1, 100_000, HOME, -1)
    assert decode_record(encode_record(record)) == record
    summary = Summary(state, config)
    assert (summary.orders, summary.purchase_days, summary.gross) == (4, 3, 1_300_000)
    assert (summary.refunds, summary.refunded) == (2, 150_000)
    # 10,000 as compacted, and the cost of what was refunded of order 1: 70 % of its price.
    assert summary.recovered == 80_000
    # Compacted: 160,000. The ticket took five minutes of 0.60.
    assert (summary.contacts, summary.support_cost) == (5, 190_000)
    assert summary.acquisition_cost == 30_000
    # Of three compacted purchase days two are known by their day.
    assert state.compacted.months.keys() == {month_of(day - 9), month_of(day - 1)}
    assert sum(state.compacted.months.values()) == 2
    windows = rolling_windows(state, day, config)
    assert windows["7"] == {"orders": 2, "revenue": 55.0, "margin": 14.0, "contacts": 5}


def test_numbers_of_currencies_never_change():
    assert (CODES[HOME], CODES[1], CODES[2], CODES[50], CODES[206]) == (
        "", "USD", "EUR", "LKR", "ZWL",
    )  # fmt: skip
    assert len(set(CODES)) == len(CODES)
    assert CURRENCIES | WITHDRAWN.keys() == set(CODES) - {""}
