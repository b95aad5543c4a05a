"""The installation: Python, packages, embedded servers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from platform import python_version

from packaging.requirements import Requirement

from streams.cli.checks.check import Check
from streams.embedded import ProgramAlteredError, ServerNotInstalledError
from streams.embedded.broker import broker_program
from streams.embedded.redis import redis_program
from streams.versions import core

DISTRIBUTION = "clv-streams"


def installation() -> Iterator[Check]:
    """Check what is installed."""
    new_enough = sys.version_info >= (3, 11)
    advice = "" if new_enough else "install Python 3.11 or newer"
    yield Check("Python", "ok" if new_enough else "fail", python_version(), advice)
    yield _packages()
    yield Check("core", "ok", core())
    try:
        broker_program()
        redis_program()
    except ServerNotInstalledError as error:
        yield Check("embedded servers", "warn", "not installed", str(error))
    except ProgramAlteredError as error:
        yield Check("embedded servers", "fail", "a program is not its wheel's", str(error))
    else:
        yield Check("embedded servers", "ok", "a broker and a Redis can be started by `clv demo`")


def _packages() -> Check:
    try:
        needed = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return Check(
            "packages", "warn", f"{DISTRIBUTION} is not installed", "run `pip install -e .`"
        )
    wrong = []
    for need in needed:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, not {need.specifier}")
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), "run `pip install -e .` again")
    faust, kafka = version("faust-streaming"), version("aiokafka")
    return Check("packages", "ok", f"as required (faust-streaming {faust}, aiokafka {kafka})")
