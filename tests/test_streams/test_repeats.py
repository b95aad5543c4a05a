"""Warnings and errors that repeat are logged at a bounded rate, and the others are counted."""

import io
import json
import logging
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from streams.cli.logs import configure_logging
from streams.cli.repeats import MOST, WINDOW_SECONDS, BoundedHandler, Line, Repeats

LINE = Line("aiokafka", logging.ERROR, "Unable to connect to %s")


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log(clock):
    """A logger of its own, and what it has written."""
    written = io.StringIO()
    handler = BoundedHandler(written, clock=clock)
    logger = logging.Logger("somebody")
    logger.addHandler(handler)
    yield logger, lambda: written.getvalue().splitlines()
    handler.close()


def test_the_first_lines_are_logged_and_the_others_counted(log, clock):
    logger, written = log
    for number in range(MOST + 20):
        logger.error("unable to connect to %s", number)
    assert written() == [f"unable to connect to {number}" for number in range(MOST)]
    clock.now += WINDOW_SECONDS
    logger.info("something else")
    assert written()[MOST:] == [
        "20 more lines of this kind were left out within 60 s: unable to connect to %s",
        "something else",
    ]


def test_a_minute_of_an_error_without_end_is_a_few_lines(log, clock):
    logger, written = log
    for _ in range(10 * 600):
        logger.warning("away")
        clock.now += 0.1
    logger.handlers[0].close()
    lines = written()
    assert lines.count("away") == 10 * MOST
    told = [int(line.split()[0]) for line in lines if "left out" in line]
    assert len(told) == 10
    assert sum(told) + lines.count("away") == 6_000


def test_other_lines_are_never_held_back(log):
    logger, written = log
    for number in range(50):
        logger.error(f"error {number}")
        logger.info("at work")
        logger.critical("it ends")
    assert len(written()) == 150


def test_what_was_left_out_is_told_at_the_end(log):
    logger, written = log
    for _ in range(MOST + 3):
        logger.error("away")
    logger.handlers[0].close()
    assert written()[-1] == "3 more lines of this kind were left out within 60 s: away"


def test_nothing_is_told_of_lines_that_were_all_logged(log, clock):
    logger, written = log
    for _ in range(3):
        logger.error("away")
        clock.now += 2 * WINDOW_SECONDS
    logger.handlers[0].close()
    assert written() == ["away"] * 3


@given(st.lists(st.tuples(st.floats(0, 50), st.sampled_from([LINE, LINE._replace(text="other")]))))
def test_every_line_is_logged_or_counted_once(steps):
    repeats, now, logged, counted = Repeats(), 0.0, [], 0
    for wait, line in steps:
        now += wait
        counted += sum(count for _, count in repeats.ended(now))
        if repeats.admit(line, now):
            logged.append((line, now))
    counted += sum(count for _, count in repeats.all())
    assert len(logged) + counted == len(steps)
    for line, since in logged:
        within = [at for other, at in logged if other == line and since <= at < since + 60]
        # A window that began just before may end, and the next begin, within a minute.
        assert len(within) <= 2 * MOST


@pytest.fixture
def restored():
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize(("verbose", "expected"), [(False, MOST), (True, 20)])
def test_a_worker_bounds_its_own_lines_and_those_of_libraries(
    verbose, expected, capsys, restored, monkeypatch
):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    configure_logging(verbose=verbose)
    ours, theirs = structlog.get_logger("streams.some"), logging.getLogger("aiokafka")
    for number in range(20):
        ours.warning("recovery waits", attempt=number)
        theirs.error("Unable to connect to %s", number)
    logging.getLogger().handlers[0].close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert sum(line["event"] == "recovery waits" for line in lines) == expected
    assert sum(line["event"].startswith("Unable to connect to") for line in lines) == expected
    left_out = [line for line in lines if "left out" in line["event"]]
    assert {line["logger"] for line in left_out} == (
        set() if verbose else {"streams.some", "aiokafka"}
    )
    assert {line["level"] for line in left_out} == (set() if verbose else {"warning", "error"})
