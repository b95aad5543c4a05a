"""How right segments are, counted by hand."""

import numpy as np
import pytest

from models.evaluation.segments import Share, Watch

ANNA, BEN = 0, 1


def moves(*steps):
    """A watch of two customers; steps: the day, and a segment for each who is there."""
    watch = Watch("d", ["up", "down"])
    for day, *segments in steps:
        watch.move(day, np.arange(len(segments)), segments)
    return watch


def nothing(_day, who):
    return np.full(len(who), np.inf)


def test_who_returns_within_thirty_days_has_gone_back_and_forth():
    quick = moves((0, "up"), (7, "down"), (37, "up"), (365, "up"))
    slow = moves((0, "up"), (7, "down"), (38, "up"), (365, "up"))
    # One customer, one year: 2 changes are 2,000 of 1,000 customers.
    assert quick.course(365, nothing).changes == pytest.approx(2_000)
    assert quick.course(365, nothing).back_and_forth == pytest.approx(1_000)
    assert slow.course(365, nothing).back_and_forth == 0


def test_a_first_segment_is_no_change_and_time_counts_from_it():
    course = moves((0, "up"), (365, "up", "down"), (730, "down", "down")).course(730, nothing)
    # Anna two years, Ben one; one change in three years.
    assert course.changes == pytest.approx(1_000 / 3)


def test_a_look_says_who_was_where_who_bought_again_and_who_had_come():
    watch = moves((0, "up", "up"), (7, "up", "down"))
    watch.look(7, np.array([ANNA, BEN]))
    ahead = np.array([50.0, np.inf])
    [look] = watch.course(107, lambda _day, who: ahead[who]).looks
    up, down = look.members
    assert (up.segment, up.customers, up.entered) == ("up", 1, 0)
    assert (down.segment, down.customers, down.entered) == ("down", 1, 1)
    # The data end after 100 days, so a year cannot be seen.
    assert up.again == (Share(90, 1.0), Share(100, 1.0))
    assert down.again == (Share(90, 0.0), Share(100, 0.0))
    assert look.of("down") is down


def test_of_whom_nothing_is_known_no_share_is_given():
    watch = moves((0, "up", "up"))
    watch.look(0, np.array([ANNA, BEN]))
    [look] = watch.course(400, lambda _day, who: np.array([np.nan, 3.0])[who]).looks
    assert look.of("up").customers == 2
    assert look.of("up").again[0] == Share(90, 1.0)
    assert look.of("down").again[0].share is None
    watch.look(400, np.array([ANNA]))
    assert watch.course(400, nothing).looks[-1].of("up").again[0] == Share(0, None)
