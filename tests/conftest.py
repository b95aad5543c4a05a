"""What holds for all tests: on CI nothing that should run is skipped."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from streams.testing.settings import TESTING_ERASURE_KEY

# No deadline: on a busy machine any example may take long. On CI the same examples each time, so
# that what is found there is found again.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CLV_CI") else "here")

# Workers do not start without one; a test of that takes it away.
os.environ["CLV_ERASURE_KEY"] = TESTING_ERASURE_KEY.get_secret_value()

ALLOWED_SKIPS = ("docker has no compose plugin", "docker is not installed")
"""Beginnings of reasons that CI accepts: its machines have no Docker engine."""


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
