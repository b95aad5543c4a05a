"""The document of /health, and its JSON."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Integral, Real

from streams.health.assess import Health, Observation
from streams.text import json_text


def report(seen: Observation, health: Health) -> dict[str, object]:
    """Return the document of /health; it contains no customer data."""
    recovery = seen.recovery
    return {
        "status": health.status,
        "ready": health.ready,
        "reasons": list(health.reasons),
        "version": seen.version,
        "uptime_seconds": round(seen.uptime, 1),
        "partitions": sorted(seen.lags),
        "lag": seen.lag,
        "lag_by_partition": dict(sorted(seen.lags.items())),
        "batches_in_work": seen.in_work,
        "seconds_without_progress": round(seen.standing_still, 1),
        "recovery": None
        if recovery is None
        else {
            "done": seen.recovered,
            "records": recovery.records,
            "expected": recovery.expected,
            "seconds_left": recovery.seconds_left,
        },
        "cache": {
            "away_seconds": None if seen.cache.away is None else round(seen.cache.away, 1),
            "pending": seen.cache.pending,
            "problem": seen.cache.problem,
            "catching_up": dict(seen.cache.catching_up),
        },
        "parameters": seen.parameters,
        "counts": dict(seen.counts),
    }


def report_json(seen: Observation, health: Health) -> str:
    """Return the document of /health as JSON, whatever values were observed."""
    return json_text(_json_form(report(seen, health)))


def _json_form(value: object) -> object:
    """Return a value as JSON has it; what JSON does not have, as text."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    if isinstance(value, Mapping):
        return {str(name): _json_form(each) for name, each in value.items()}
    if isinstance(value, Collection) and not isinstance(value, (bytes, bytearray)):
        return [_json_form(each) for each in value]
    return str(value)
