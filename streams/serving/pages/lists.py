"""The list of customers: what a person asked for, and what the page shows of it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from streams.serving.lists import Asked, rows
from streams.serving.pages.overview import in_order
from streams.serving.problems import Problem
from streams.serving.sources import Sources

PAGE = 50

PRESETS: tuple[tuple[str, dict[str, str]], ...] = (
    ("All customers", {}),
    ("Valuable and at risk", {"lifecycle": "at risk"}),
    ("Need attention", {"lifecycle": "needs attention"}),
    ("Gold", {"tier": "gold"}),
    ("Worth less than nothing", {"most": "0", "order": "lowest"}),
)
"""Names of lists, and what they ask for."""


async def customer_list(sources: Sources, query: QueryParams) -> dict[str, Any]:
    """Return what the template needs. Errors: RedisError, Problem."""
    size = await sources.size()
    dimensions = await sources.scores.dimensions()
    asked = asked_for(query, dimensions)
    start = _number(query, "from") or 0
    found = await rows(sources.cache, asked, max(int(start), 0), PAGE)
    totals = {name: await sources.cache.totals(name) for name in dimensions}
    given = {name: text for name, text in query.items() if name != "from" and text}
    return {
        "size": size,
        "asked": asked,
        "chosen": dict(asked.within),
        "query": given,
        "choices": {name: in_order(sources, name, totals[name]) for name in dimensions},
        "customers": found.customers,
        "start": int(start),
        "next": None if found.next is None else urlencode({**given, "from": found.next}),
        "csv": urlencode(given),
        "presets": [
            (name, urlencode(preset), preset == given)
            for name, preset in PRESETS
            if all(key in ("most", "order") or key in dimensions for key in preset)
        ],
    }


def asked_for(query: QueryParams, dimensions: list[str]) -> Asked:
    """Return what a query asks for. Errors: Problem."""
    order = query.get("order", "highest")
    if order not in ("", "highest", "lowest"):
        raise Problem(422, f"order is {order!r}; it may be highest or lowest")
    within = tuple((name, query[name]) for name in dimensions if query.get(name))
    return Asked(within, _number(query, "least"), _number(query, "most"), order == "lowest")


def _number(query: QueryParams, name: str) -> float | None:
    text = query.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < 1e15:
        raise Problem(422, f"{name} is {text!r}; write a number such as 250")
    return number
