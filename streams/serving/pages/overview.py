"""What the overview shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from models.segments import DEFAULT_RULES, Rules
from streams.cache import SegmentTotals
from streams.serving.distribution import distribution
from streams.serving.pages.charts import bars
from streams.serving.pages.service import service
from streams.serving.recent_changes import ChangeData
from streams.serving.sources import Sources

FEED = 12
"""Latest changes that are shown."""

SURVEY_SECONDS = 0.5
"""How long the page waits for sums; then it says that they are being made."""


async def overview(sources: Sources) -> dict[str, Any]:
    """Return what the template needs. Errors: RedisError."""
    dimensions = [await _dimension(sources, name) for name in await sources.scores.dimensions()]
    # Read last: where segments are shown, a first customer is counted too.
    size = await sources.size()
    bins = await distribution(sources.cache)
    survey = await sources.surveys.get(SURVEY_SECONDS) if size else None
    value = sum(each.value for each in dimensions[0]["totals"].values()) if dimensions else None
    lengths = bars([each.customers for each in bins])
    return await service(sources) | {
        "size": size,
        "value": None if value is None else float(value),
        "survey": survey,
        "dimensions": dimensions,
        "bins": list(zip(bins, lengths, strict=True)),
        "feed": newest(sources.following.changes.latest)[:FEED],
        "counted": sources.following.changes.progress,
    }


def newest(changes: Iterable[ChangeData]) -> list[ChangeData]:
    """Return changes by when they came about, the latest first; published last, first."""
    return sorted(changes, key=lambda each: each.as_of, reverse=True)


async def _dimension(sources: Sources, name: str) -> dict[str, Any]:
    totals = await sources.cache.totals(name)
    ordered = {segment: totals[segment] for segment in in_order(sources, name, totals)}
    everybody = sum(total.customers for total in ordered.values()) or 1
    return {
        "name": name,
        "totals": ordered,
        "shares": {segment: total.customers / everybody for segment, total in ordered.items()},
        "bars": dict(
            zip(ordered, bars([total.customers for total in ordered.values()]), strict=True)
        ),
    }


def rules_in_force(sources: Sources) -> Rules:
    """Return the rules that hold last."""
    registry = sources.following.registry
    return (registry and registry.rules.latest) or DEFAULT_RULES


def in_order(
    sources: Sources, dimension: str, found: Mapping[str, SegmentTotals | int]
) -> list[str]:
    """Return segments in the order of the rules in force, and after them any others."""
    known = rules_in_force(sources).by_name.get(dimension)
    order = [] if known is None else list(dict.fromkeys(rule.segment for rule in known.rules))
    return [name for name in order if name in found] + [name for name in found if name not in order]
