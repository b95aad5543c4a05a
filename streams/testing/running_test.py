"""The services that the running test uses, for its report and for the checks at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MOST = 3
"""Services that are kept: a property makes hundreds in one test."""

_used: list[dict[Any, None]] = []


@contextmanager
def watched() -> Iterator[dict[Any, None]]:
    """Collect the services that are made or called meanwhile, at most the last `MOST`."""
    used: dict[Any, None] = {}
    _used.append(used)
    try:
        yield used
    finally:
        _used.remove(used)


def note(service: object) -> None:
    """Note that a service is used; nothing happens where no test runs."""
    if not _used:
        return
    used = _used[-1]
    used.pop(service, None)
    used[service] = None
    if len(used) > MOST:
        del used[next(iter(used))]
