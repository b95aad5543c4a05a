"""Whether a refit is due: by time, by growth, or because somebody asks. Pure.

Everything follows from the registry, so that a restart changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from models.calendar import milliseconds
from models.contracts.parameters import Parameters
from streams.registry.registry import Registry

GROWTH = 2
"""A shop with so many times the customers that the parameters were fitted on has outgrown them."""

PAUSE = timedelta(days=1)
"""Least time between two refits by growth or drift."""


def in_force(registry: Registry, now: datetime) -> Parameters | None:
    """Return the parameters in force; None before the first."""
    return registry.timeline.at(milliseconds(now))


def last_refit(registry: Registry, now: datetime) -> datetime:
    """Return when parameters were last put in force, refused, or found the same; 1970 for never."""
    times = [datetime.fromtimestamp(0, UTC)]
    current = in_force(registry, now)
    if current is not None:
        times.append(current.holds_from or current.fitted_until)
    if registry.done is not None:
        times.append(registry.done.at)
    return max(times)


def next_refit(registry: Registry, now: datetime, every: timedelta) -> datetime:
    """Return when the next refit by time is due."""
    return last_refit(registry, now) + every


def due(registry: Registry, buyers: int, now: datetime, every: timedelta) -> str | None:
    """Return why a refit is due, in words; None if it is not. buyers: customers who
    have bought."""
    if registry.asked is not None:
        return f"somebody asked for it at {registry.asked.asked_at.isoformat()}"
    if not buyers:
        return None
    current = in_force(registry, now)
    if current is None and registry.done is None:
        return "there are no parameters yet"
    if now >= next_refit(registry, now, every):
        return f"the last refit was at {last_refit(registry, now).isoformat()}"
    grown = current is not None and buyers >= GROWTH * max(current.customers, 1)
    if grown and current is not None and rested(registry, now):
        return f"{buyers:,} customers have bought, and {current.customers:,} when it was fitted"
    return None


def rested(registry: Registry, now: datetime) -> bool:
    """Return whether the last refit is long enough ago for one by growth or drift."""
    return now >= last_refit(registry, now) + PAUSE
