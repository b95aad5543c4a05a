"""How many customers a step of a sweep has, and how long sweeps rest."""

from __future__ import annotations

import pytest

from streams.pacing import (
    DUE_A_SECOND,
    FIRST,
    LEAST_REST,
    MOST,
    MOST_SECONDS,
    STEP_SECONDS,
    Pace,
    Schedule,
    rest_of_all,
)


def test_a_step_has_as_many_customers_as_the_engine_scores_in_the_time_for_one():
    pace = Pace(STEP_SECONDS)
    assert pace.customers == FIRST
    pace.note(100, STEP_SECONDS * 4)
    # It changes by halves and doubles at most, as a single step may have been held up.
    assert pace.customers == 50
    pace.note(50, STEP_SECONDS / 1.5)
    assert pace.customers == 75
    pace.note(10, STEP_SECONDS)
    assert pace.customers == 75
    for _ in range(10):
        pace.note(pace.customers, 0.0)
    assert pace.customers == MOST
    pace.note(1_000, 1e6)
    assert pace.customers == 500


def test_a_sweep_over_everybody_rests_half_of_a_step_and_no_longer_where_the_machine_is_busy():
    assert rest_of_all(0.02) == 0.01
    assert rest_of_all(1.0) == rest_of_all(STEP_SECONDS) == STEP_SECONDS / 2


def swept(customers: int, *, each: float, step: int = 100, begins: float = 50.0) -> float:
    """Return how long a sweep of so many takes, of which the engine takes so long each."""
    schedule, now = Schedule(), begins
    schedule.begin(customers, now)
    while customers:
        taken = min(step, customers)
        now += taken * each
        now += schedule.rest(taken, taken * each, now)
        customers -= taken
    return now - begins


@pytest.mark.parametrize(
    ("customers", "each", "takes"),
    [
        (100, 300e-6, 0.1),
        (1_000, 300e-6, 1.0),
        (10_000, 300e-6, 10.0),
        (100_000, 300e-6, MOST_SECONDS),
        # More than the machine can do in the time: rests are as short as they get.
        (1_000_000, 300e-6, 1_000_000 * 300e-6 * (1 + LEAST_REST)),
        (100_000, 0.0, MOST_SECONDS),
    ],
)
def test_those_who_are_due_are_looked_at_in_time_and_no_faster(customers, each, takes):
    assert swept(customers, each=each) == pytest.approx(takes, rel=0.01)


def test_after_a_step_that_took_long_a_sweep_catches_up():
    schedule = Schedule()
    schedule.begin(1_000, 0.0)
    assert schedule.rest(100, 0.03, 0.03) == pytest.approx(0.07)
    assert schedule.rest(100, 0.3, 0.4) == LEAST_REST * 0.3
    assert schedule.rest(100, 0.03, 0.505) == LEAST_REST * 0.03
    assert schedule.rest(600, 0.18, 0.8) == pytest.approx(0.1)


def test_sweeps_of_several_partitions_share_the_time():
    schedule = Schedule()
    schedule.begin(4_000, 0.0)
    for now in (1.0, 2.0):
        assert schedule.rest(1_000, 0.1, now - 0.9) == pytest.approx(0.9)
    # The next partition's sweep begins: there is nobody who was not known of.
    schedule.begin(2_000, 2.0)
    assert schedule.rest(1_000, 0.1, 2.1) == pytest.approx(0.9)
    # One more has become due than is left.
    schedule.begin(1_001, 3.0)
    assert schedule.rest(1_001, 0.1, 3.1) == pytest.approx(0.901)


def test_a_sweep_over_nobody_takes_no_time():
    schedule = Schedule()
    schedule.begin(0, 5.0)
    assert schedule.rest(0, 0.0, 5.0) == 0.0


@pytest.mark.parametrize("due", [10, 100_000])
def test_after_a_sweep_the_next_begins_anew(due):
    """Also if not all of those who were due were looked at: their partition has another worker."""
    schedule = Schedule()
    schedule.begin(due, 5.0)
    schedule.rest(10, 0.001, 5.001)
    schedule.begin(DUE_A_SECOND, 500.0)
    assert schedule.rest(DUE_A_SECOND, 0.1, 500.1) == pytest.approx(0.9)
