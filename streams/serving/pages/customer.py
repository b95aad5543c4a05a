"""What the page of a customer shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.past import known_since
from models.aggregate.record import CustomerRecord
from models.aggregate.state import Aggregate
from models.context import Interpretation
from models.errors import ClvError
from models.outlook import Outlook, Worth, history, outlook, past_moments
from models.value import LEVER
from streams.kafka.errors import KafkaError
from streams.moved import MOVED
from streams.serving.clock import now_of
from streams.serving.insight import absent
from streams.serving.pages.charts import Curve, bars, curve, places, waterfall
from streams.serving.pages.overview import newest
from streams.serving.pages.words import money, share
from streams.serving.sources import Sources

RECORD_SECONDS = 5.0
"""How long the page waits for what Kafka holds of a customer; it shows the value without it."""

CHANGES = 20
"""Latest changes that are shown."""


async def customer(sources: Sources, customer_id: str) -> dict[str, Any]:
    """Return what the template needs. Errors: RedisError, Problem."""
    await sources.size()
    score = await sources.cache.get(customer_id)
    if score is None:
        raise absent(customer_id)
    data = msgspec.json.decode(score.update)["data"]
    levers = [
        (name, data["levers"][key])
        for key, name in (
            ("purchase_value", "order value"),
            ("purchases", "number of orders"),
            ("margin", "margin"),
        )
    ]
    # What is spent already cannot be changed: this one is about others like them.
    cost = data["realised"]["acquisition_cost"]
    levers.append(("acquisition cost", -LEVER * cost))
    context = {
        "data": data,
        "waterfall": _waterfall(data),
        "levers": list(zip(levers, bars([each for _, each in levers]), strict=True)),
        "counted": sources.following.changes.progress,
        "kept": len(sources.following.changes.latest),
        "changes": newest(sources.following.changes.of_customer(customer_id))[:CHANGES],
        "moved": _moved(data.get("moved")),
        "explained": "moved" in data,
    }
    try:
        async with asyncio.timeout(RECORD_SECONDS):
            record = await sources.stored.of(score)
            by = await sources.following.interpretation(RECORD_SECONDS)
            context |= await _own_changes(sources, customer_id)
    except (KafkaError, OSError, ClvError) as error:
        return context | {"missing": type(error).__name__}
    if record is None:
        return context
    # Up to 60 ms; in a thread, so that others are answered meanwhile.
    now = now_of(sources.settings)
    return context | await asyncio.to_thread(_from_record, record, by, now)


async def _own_changes(sources: Sources, customer_id: str) -> dict[str, Any]:
    """Return the latest changes of the customer; told: how many there were."""
    where = sources.following.changes.places.of(customer_id)
    found = await sources.own_changes.at(customer_id, where[-CHANGES:])
    return {"told": len(where), "changes": newest(reversed(found))}


def _moved(moved: Mapping[str, float] | None) -> dict[str, Any] | None:
    """Return what has moved the value since the update before, its parts with bars."""
    if not moved:
        return None
    parts = [(words, moved[name]) for name, words in MOVED.items() if moved[name]]
    lengths = bars([amount for _, amount in parts])
    return {
        "before": moved["from"],
        "to": moved["to"],
        "parts": [(*part, length) for part, length in zip(parts, lengths, strict=True)],
    }


def _waterfall(data: dict[str, Any]) -> list[Any]:
    realised, expected = data["realised"], data["expected"]
    return waterfall(
        [
            ("Margin earned", realised["margin"], False),
            ("Cost to serve", -realised["cost_to_serve"], False),
            ("Acquisition cost", -realised["acquisition_cost"], False),
            ("Realised so far", realised["total"], True),
            ("Expected margin", expected["total"] + expected["cost_to_serve"], False),
            ("Expected cost to serve", -expected["cost_to_serve"], False),
            ("Value", data["clv"], True),
        ]
    )


def _from_record(record: CustomerRecord, by: Interpretation, now: int) -> dict[str, Any]:
    future = outlook(record, by, now=now)
    past = list(history(record, past_moments(record, by.economics), by))
    since = known_since(record.aggregate)
    return {
        "turns": {turn.dimension: turn for turn in future.turns},
        "due": future.due,
        "alive": _alive(future),
        "coming": future.days,
        "past": past,
        "worth": _worth(past),
        "known_since": None if since is None or since < 0 else since,
        "line": _time_line(record.aggregate, past),
    }


def _alive(future: Outlook) -> Curve | None:
    points = [(day.as_of, day.p_alive) for day in future.days if day.p_alive is not None]
    # What is due already has no place on it.
    begins = future.days[0].as_of
    marks = [turn.at for turn in future.turns if turn.at is not None and turn.at >= begins]
    return curve(points, share, bounds=(0.0, 1.0), marks=marks)


def _worth(past: list[Worth]) -> Curve | None:
    return curve([(day.as_of, day.clv) for day in past], money)


def _time_line(state: Aggregate, past: list[Worth]) -> list[tuple[str, int, list[float]]]:
    """Return rows of the time line: name, number of entries, and their places."""
    if len(past) < 2:
        return []
    begin, end = past[0].as_of, past[-1].as_of
    void = cancelled_orders(state)
    found = {
        "Orders": [order.time for key, order in state.orders.items() if key not in void],
        "Refunds": [each.time for each in state.refunds.values() if each.order not in void],
        "Contacts": [each.first.time for each in state.tickets.values()],
    }
    return [(name, len(times), places(times, begin, end)) for name, times in found.items()]
