"""What the pages of changes, flows, cohorts, the model and operations show."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from starlette.datastructures import QueryParams

from models.segments.words import in_words
from streams.registry.registry import Registry
from streams.serving.pages.charts import bars
from streams.serving.pages.overview import newest, rules_in_force
from streams.serving.pages.service import service
from streams.serving.problems import Problem
from streams.serving.recent_changes import ChangeData
from streams.serving.sources import Sources

CHANGES = 50

COHORTS_SECONDS = 3.0

_SHOWN_MONTHS = 12


async def changes(sources: Sources, query: QueryParams) -> dict[str, Any]:
    """Return the latest changes that fit, newest or greatest first."""
    await sources.size()
    dimension, segment = query.get("dimension", ""), query.get("segment", "")
    order = query.get("order", "newest")
    if order not in ("newest", "gain", "loss"):
        raise Problem(422, f"order is {order!r}; it may be newest, gain or loss")

    def fits(change: ChangeData) -> bool:
        return dimension in ("", change.dimension) and segment in (
            "", change.current, change.previous,
        )  # fmt: skip

    latest = sources.following.changes.latest
    found = [each for each in latest if fits(each)]
    if order == "newest":
        found = newest(found)
    else:
        found.sort(key=lambda each: each.gain, reverse=order == "gain")
    names = sorted({each.dimension for each in latest})
    return {
        "changes": found[:CHANGES],
        "kept": len(latest),
        "matching": len(found),
        "dimension": dimension,
        "segment": segment,
        "order": order,
        "dimensions": names,
        "segments": sorted({each.current for each in latest if each.current}),
        "counted": sources.following.changes.progress,
    }


async def flows(sources: Sources, query: QueryParams) -> dict[str, Any]:
    """Return who went from which segment to which in a period."""
    changes = sources.following.changes
    known = changes.days
    first, last = _day(query, "first"), _day(query, "last")
    begin = first or (date.fromordinal(max(known[0], known[1] - 29)) if known else None)
    end = last or (date.fromordinal(known[1]) if known else None)
    found = changes.flows(begin.toordinal(), end.toordinal()) if begin and end else {}
    listed: dict[str, list[Any]] = {}
    lengths = bars([flow.customers for flow in found.values()])
    for (step, flow), length in zip(found.items(), lengths, strict=True):
        listed.setdefault(step.dimension, []).append((step, flow, length))
    return {
        "dimensions": dict(sorted(listed.items())),
        "first": begin,
        "last": end,
        "known": known and [date.fromordinal(day) for day in known],
        "counted": changes.progress,
    }


async def cohorts(sources: Sources, _query: QueryParams) -> dict[str, Any]:
    """Return customers by month of their first order."""
    survey = await sources.surveys.get(COHORTS_SECONDS)
    found = survey.cohorts if survey else []
    return {
        "survey": survey,
        "why": sources.surveys.why,
        "cohorts": [each for each in found if each.month],
        "without": next((each for each in found if not each.month), None),
        "months": min(max((len(each.by_month) for each in found), default=0), _SHOWN_MONTHS),
    }


async def model(sources: Sources, _query: QueryParams) -> dict[str, Any]:
    """Return which parameters and rules hold from when."""
    registry = sources.following.registry
    published = [] if registry is None else list(reversed(registry.timeline.published))
    return {
        "known": registry is not None,
        "published": published,
        "current": published[0] if published else None,
        "purchases": published[0].purchases.document() if published else {},
        "calibration": registry and published and _calibration(registry, published[0].version),
        "refused": [] if registry is None else list(registry.candidates.values()),
        "rules": rules_in_force(sources),
        "in_words": in_words,
    }


def _calibration(registry: Registry, version: str) -> dict[str, Any] | None:
    """Return the groups of a version's calibration with their bars, and their sums."""
    found = registry.calibrations.get(version)
    if found is None:
        return None
    groups = found.groups
    lengths = bars([*(each.expected for each in groups), *(each.observed for each in groups)])
    expected, observed = lengths[: len(groups)], lengths[len(groups) :]
    return {
        "first": found.first,
        "last": found.last,
        "groups": list(zip(groups, expected, observed, strict=True)),
        "expected": sum(each.expected for each in groups),
        "deviation": math.hypot(*(each.deviation for each in groups)),
        "observed": sum(each.observed for each in groups),
    }


async def operations(sources: Sources, _query: QueryParams) -> dict[str, Any]:
    """Return how far the workers are, and what was refused."""
    context = await service(sources)
    partitions = context["found"].partitions if context["found"] else []
    lengths = bars([each.behind for each in partitions])
    return context | {"partitions": list(zip(partitions, lengths, strict=True))}


def _day(query: QueryParams, name: str) -> date | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Problem(422, f"{name} is {text!r}; write a day such as 2026-07-01") from None
