"""The list of whose segment changes within a week if they stay silent."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Iterator
from typing import Any, Final, cast, get_args
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from streams.serving.cursors import after_due, due_before
from streams.serving.due import Asked, Order, exported, found, latest
from streams.serving.looking_ahead import DAYS, Ahead
from streams.serving.pages.overview import rules_in_force
from streams.serving.problems import Problem
from streams.serving.sources import Sources

PAGE: Final = 50

PAGE_SECONDS: Final = 3.0
"""How long the page waits for the list; then it says that it is being made."""

EXPORT_SECONDS: Final = 60.0


async def due_list(sources: Sources, query: QueryParams) -> dict[str, Any]:
    """Return what the template needs. Errors: RedisError, Problem."""
    await sources.size()
    asked, after = asked_for(query), due_before(query.get("from") or None)
    ahead = await sources.ahead.get(PAGE_SECONDS)
    given = {name: text for name, text in query.items() if name != "from" and text}
    context: dict[str, Any] = {
        "asked": asked,
        "ahead": ahead,
        "why": sources.ahead.why,
        "csv": urlencode(given),
        "most_days": DAYS,
        "start": after is not None,
        "choices": _choices(sources, ahead),
    }
    if ahead is None:
        return context
    part = await to_thread(found, ahead, asked, PAGE, sources.settings.economics, after)
    following = part.next and urlencode({**given, "from": after_due(part.next)})
    return context | {"part": part, "next": following}


async def due_export(sources: Sources, query: QueryParams) -> Iterator[str]:
    """Return the list as CSV, in parts. Errors: Problem."""
    asked = asked_for(query)
    ahead = await latest(sources.ahead, EXPORT_SECONDS)
    return exported(ahead, asked, sources.settings.economics)


def asked_for(query: QueryParams) -> Asked:
    """Return what a query asks for. Errors: Problem."""
    order = query.get("order") or "soonest"
    if order not in get_args(Order):
        raise Problem(422, f"order is {order!r}; it may be {', '.join(get_args(Order))}")
    days = query.get("days") or str(DAYS)
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:3]) <= DAYS):
        raise Problem(422, f"days is {days!r}; it may be a number from 1 to {DAYS}")
    return Asked(
        int(days),
        query.get("dimension", ""),
        query.get("previous", ""),
        query.get("current", ""),
        cast("Order", order),
    )


def _choices(sources: Sources, ahead: Ahead | None) -> dict[str, list[str]]:
    """Return the dimensions and segments of the rules in force, and after them any others."""
    dimensions = rules_in_force(sources).dimensions
    names = [each.name for each in dimensions]
    segments = [rule.segment for each in dimensions for rule in each.rules]
    for changes in list(ahead.changes.values()) if ahead else ():
        for each in changes:
            names.append(each.dimension)
            segments += [name for name in (each.previous, each.current) if name]
    listed = list(dict.fromkeys(segments))
    return {"dimension": list(dict.fromkeys(names)), "previous": listed, "current": listed}
