"""Short histories, written as calls of a topology's builders, and what comes of them."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import structlog
from hypothesis import strategies as st

from streams.testing import Topology, running_topology, shop_settings

CUSTOMERS = ("anna", "bert", "carl")
MOST_CALLS = 12


@dataclass(frozen=True)
class Call:
    """A call of a builder, such as `topology.orders.placed`; its text can be pasted into a test."""

    name: str
    positional: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]

    @property
    def topic(self) -> str:
        return self.name.partition(".")[0]

    def __str__(self) -> str:
        given = [json.dumps(each) for each in self.positional]
        given += [f"{name}={json.dumps(each)}" for name, each in self.named]
        return f"await topology.{self.name}({', '.join(given)})"

    async def make(self, topology: Topology, number: int) -> None:
        named = dict(self.named)
        if self.name != "advance":
            # As the topology counts them, wherever the call stands in another interleaving.
            named["event_id"] = f"event-{number}"
        await attrgetter(self.name)(topology)(*self.positional, **named)


@dataclass(frozen=True)
class Setup:
    """What must make no difference."""

    workers: int = 1
    partitions: int = 1
    poll_records: int = 1


SETUPS = st.builds(
    Setup, st.sampled_from([1, 2, 3]), st.sampled_from([1, 2, 5]), st.sampled_from([1, 2, 3, 5_000])
)


class Differs(AssertionError):
    """Two ways to do the same came to different things; the text has the calls."""


@dataclass(frozen=True)
class Came:
    """What came of a history: bytes of the current values, and of all changes, by customer."""

    values: dict[str, bytes]
    changes: dict[str, list[bytes]]
    refused: list[str]


def calls(*kinds_of: str) -> st.SearchStrategy[list[Call]]:
    """Histories of these kinds of calls; simple ones first.

    Each event has a day of its own: what happened at one time is put in order by ids.
    """

    @st.composite
    def history(draw: st.DrawFn) -> list[Call]:
        kinds = st.sampled_from([kind for each in kinds_of for kind in _KINDS[each]])
        count = draw(st.integers(1, MOST_CALLS))
        days = draw(st.permutations(range(MOST_CALLS)))
        return [draw(kinds)(draw, f"2026-{day + 1:02d}-03") for day in days[:count]]

    return history()


def _call(name: str, *positional: Any, **named: Any) -> Call:
    return Call(name, positional, tuple(named.items()))


_customer = st.sampled_from(CUSTOMERS)
_amount = st.sampled_from(["1.00", "20.00", "33.33", "400.10", "5.00 USD"])
_id = st.sampled_from(["1", "2", "3", "4", "5", "6"])


def _placed(draw: st.DrawFn, at: str) -> Call:
    return _call("orders.placed", draw(_customer), draw(_amount), order=draw(_id), at=at)


def _refunded(draw: st.DrawFn, at: str) -> Call:
    number = draw(_id)
    return _call("orders.refunded", draw(_customer), "0.50", order=number, refund=number, at=at)


def _cancelled(draw: st.DrawFn, at: str) -> Call:
    return _call("orders.cancelled", draw(_customer), draw(_id), at=at)


def _opened(draw: st.DrawFn, at: str) -> Call:
    channel = draw(st.sampled_from(["email", "phone"]))
    return _call("support.opened", draw(_customer), channel=channel, ticket=draw(_id), at=at)


def _resolved(draw: st.DrawFn, at: str) -> Call:
    return _call("support.resolved", draw(_customer), draw(_id), minutes=7, at=at)


def _answered(draw: st.DrawFn, at: str) -> Call:
    score = draw(st.integers(0, 10))
    return _call("support.answered", draw(_customer), score, survey=draw(_id), at=at)


def _acquired(draw: st.DrawFn, at: str) -> Call:
    return _call("customers.acquired", draw(_customer), "3.30", at=at)


def _merged(draw: st.DrawFn, at: str) -> Call:
    """Each customer goes into one other: of two merges of one, the first to arrive counts."""
    stays, goes = draw(st.sampled_from([("anna", "bert"), ("bert", "carl")]))
    return _call("customers.merged", stays, goes, at=at)


def _merged_with_anna(_draw: st.DrawFn, at: str) -> Call:
    return _call("customers.merged", "anna", "bert", at=at)


def _erased(draw: st.DrawFn, at: str) -> Call:
    return _call("customers.erased", draw(_customer), at=at)


def _passed(draw: st.DrawFn, _at: str) -> Call:
    return _call("advance", days=draw(st.sampled_from([1, 90, 400])))


_KINDS = {
    "orders": (_placed, _refunded, _cancelled),
    "support": (_opened, _resolved, _answered),
    "customers": (_acquired,),
    "merges": (_merged,),
    "erasures": (_merged_with_anna, _erased),
    "advance": (_passed,),
}


def outcome(history: Sequence[tuple[int, Call]], setup: Setup) -> Came:
    """What comes of numbered calls; it has an event loop of its own."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(_outcome(history, setup))
    finally:
        structlog.reset_defaults()


async def _outcome(history: Sequence[tuple[int, Call]], setup: Setup) -> Came:
    settings = shop_settings(partitions=setup.partitions, poll_records=setup.poll_records)
    async with running_topology(settings, workers=setup.workers) as topology:
        for number, call in history:
            await call.make(topology, number)
        values = {}
        for record in await topology.topic(settings.topics.updates):
            values[(record.key or b"").decode()] = record.value or b""
        changes: defaultdict[str, list[bytes]] = defaultdict(list)
        for record in await topology.topic(settings.topics.segment_changes):
            changes[(record.key or b"").decode()].append(record.value or b"")
        refused = sorted(letter.reason for letter in await topology.dead_letters.all())
        return Came(values, dict(changes), refused)


def numbered(history: Sequence[Call]) -> list[tuple[int, Call]]:
    """Calls with the numbers that the topology would give their events."""
    return list(enumerate(history, 1))


def check_same(history: Sequence[Call], what: str, first: Any, second: Any) -> None:
    """Raise Differs, with calls that can be pasted into a test, where two things differ."""
    if first == second:
        return
    text = "\n".join(f"    {call}" for call in history)
    raise Differs(f"{what} makes a difference:\n{text}\ncame to\n    {first}\nand to\n    {second}")
