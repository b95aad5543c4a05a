"""What holds for all tests: what was left out is told, and on CI nothing may be."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import settings

from streams.simulation.settings import TESTING_ERASURE_KEY
from tests.servers.allowed import allow_kafka

SHARES = {"short": 0.2, "quick": 0.04}
"""Of the examples of a property, by profile: `make test` and `make check`; else all of them."""

# No deadline: on a busy machine any example may take long. On CI the same examples each time, so
# that what is found there is found again.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
for _name in SHARES:
    settings.register_profile(_name, deadline=None)
settings.load_profile("ci" if os.environ.get("CLV_CI") else "here")

# Workers do not start without one; a test of that takes it away.
os.environ["CLV_ERASURE_KEY"] = TESTING_ERASURE_KEY.get_secret_value()

ALLOWED_SKIPS = ("docker has no compose plugin", "docker is not installed")
"""Beginnings of reasons that CI accepts: its machines have no Docker engine."""

LEFT_OUT = "clv_left_out"
KINDS = ("kafka", "slow", "heavy")
"""Marks of tests that `make test` or `make check` leaves out."""

_left_out: Counter[str] = Counter()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what runs on Kafka by its parameter, and give properties their share of examples.

    What takes long goes first, so that no process is left alone with it at the end.
    """
    share = SHARES.get(config.getoption("hypothesis_profile", None) or "")
    for item in items:
        parameters = getattr(item, "callspec", None)
        if parameters is not None and "kafka" in parameters.params.values():
            item.add_marker("kafka")
        if share is not None:
            _scale(item, share)
    items.sort(key=lambda item: not any(map(item.get_closest_marker, KINDS)))


def _scale(item: pytest.Item, share: float) -> None:
    function: Any = getattr(item, "obj", None)
    # A method's attributes belong to its function.
    function = getattr(function, "__func__", function)
    given: settings | None = getattr(function, "_hypothesis_internal_use_settings", None)
    if given is not None and not hasattr(function, "clv_scaled"):
        examples = max(5, math.ceil(share * given.max_examples))
        function._hypothesis_internal_use_settings = settings(given, max_examples=examples)
        function.clv_scaled = True


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Let no test start Apache Kafka that is not marked: `make test` needs nothing but Python."""
    with allow_kafka(item.get_closest_marker("kafka") is not None):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Turn a skip into a failure on CI, with the reason it gave."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CLV_CI") and not hasattr(report, "wasxfail"):
        reason = str(call.excinfo.value) if call.excinfo else "no reason given"
        if not reason.startswith(ALLOWED_SKIPS):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped where it must run: {reason}"


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Count what is left out by its mark."""
    for item in items:
        _left_out[next((kind for kind in KINDS if item.get_closest_marker(kind)), "other")] += 1


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over what a process of pytest-xdist has left out: each of them collects all tests."""
    _left_out.update(Counter(getattr(node, "workeroutput", {}).get(LEFT_OUT, {})) - _left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that leads what was left out; fail on CI if anything was."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LEFT_OUT] = dict(_left_out)
    elif _left_out and os.environ.get("CLV_CI"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was left out."""
    if _left_out:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(_left_out.items()))
        terminalreporter.write_line(
            f"{_left_out.total()} tests were left out ({kinds}); `make test-all` runs all of them",
            yellow=True,
        )
