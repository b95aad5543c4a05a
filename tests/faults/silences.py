"""What events and the time between them must bring: every customer, midnight after midnight.

Written anew from the documented rules, without a line of the program that it is compared with. It
asks of nobody when they are due: it decides the segments of everybody at each midnight, and at each
moment from which other parameters or rules hold.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from tests.faults.published import DAY_MS, Event
from tests.faults.verdict import KafkaRecord, Verdict

YEAR = 365

COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "at least": lambda value, bound: value >= bound,
    "at most": lambda value, bound: value <= bound,
    "below": lambda value, bound: value < bound,
    "above": lambda value, bound: value > bound,
}

Dimensions = Sequence[Mapping[str, Any]]
"""The `dimensions` of a configuration, as TOML."""


class Purchases(NamedTuple):
    """The parameters of MBG/NBD, in days.

    unsteadiness: of what is to come, x purchases tell as little as x / (1 + unsteadiness x) would
    if rates did not change; the mean rate stays.
    """

    r: float
    alpha: float
    a: float
    b: float
    unsteadiness: float = 0.0


PRIOR = Purchases(0.5, 70.0, 0.7, 2.5, 0.1)
"""Those of a shop without any of its own."""


class Change(NamedTuple):
    """A segment change. as_of: milliseconds since 1970."""

    id: str
    previous: str | None
    current: str
    cause: str
    as_of: int


@dataclass(frozen=True)
class InForce:
    """What holds from when, in milliseconds since 1970: each in the order of time."""

    rules: Sequence[tuple[int, Dimensions]]
    parameters: Sequence[tuple[int, Purchases]] = ((0, PRIOR),)

    def at(self, moment: int) -> tuple[Dimensions, Purchases]:
        """Return what holds at a time."""
        rules = [each for since, each in self.rules if since <= moment]
        parameters = [each for since, each in self.parameters if since <= moment]
        return rules[-1], parameters[-1]

    def moments(self, after: int, until: int) -> Iterator[tuple[int, str]]:
        """Yield each moment in (after, until] that may bring something, with the cause."""
        midnight = (after // DAY_MS + 1) * DAY_MS
        found = [(moment, "time") for moment in range(midnight, until + 1, DAY_MS)]
        found += [(since, "rules") for since, _ in self.rules if after < since <= until]
        found += [(since, "model") for since, _ in self.parameters if after < since <= until]
        yield from sorted(found)


@dataclass
class _Life:
    """What is known of one customer."""

    name: str
    orders: dict[tuple[str, str], int] = field(default_factory=dict)
    contacts: list[int] = field(default_factory=list)
    version: int = 0
    segments: dict[str, str] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add an event; each is of something else."""
        self.version += 1
        if event.kind == "order.placed":
            self.orders[event.source, event.data["order_id"]] = event.time // DAY_MS
        elif event.kind == "order.cancelled":
            del self.orders[event.source, event.data["order_id"]]
        elif event.kind == "ticket.opened":
            self.contacts.append(event.time // DAY_MS)
        else:
            raise ValueError(f"nobody says here what {event.kind} brings")

    def features(self, today: int, of: Purchases) -> dict[str, float]:
        """Return what the rules compare, without what is missing."""
        days = sorted(set(self.orders.values()))
        found: dict[str, float] = {
            "orders": len(self.orders),
            "purchase_days": len(days),
            "orders_90d": sum(day > today - 90 for day in self.orders.values()),
            "contacts_30d": sum(day > today - 30 for day in self.contacts),
        }
        if not days:
            return found
        repeats, recency, age = len(days) - 1, days[-1] - days[0], today - days[0]
        # Batislam et al. (2007): who has dropped out did so right after the last purchase.
        shape = of.r + repeats
        faded = ((of.alpha + age) / (of.alpha + recency)) ** shape
        alive = 1 / (1 + of.a / (of.b + repeats) * faded)
        later = of.r + repeats / (1 + of.unsteadiness * repeats)
        rate = (of.alpha + age) * later / shape
        none_in_a_year = (rate / (rate + YEAR)) ** later
        found["days_since_last_order"] = today - days[-1]
        found["p_alive"] = alive
        found["p_purchase"] = alive * (1 - none_in_a_year)
        if repeats:
            found["silent_gaps"] = (today - days[-1]) / (recency / repeats)
        return found

    def decide(self, moment: int, cause: str, in_force: InForce) -> Iterator[Change]:
        """Decide all segments as of a moment, and yield what has changed."""
        today = moment // DAY_MS
        dimensions, parameters = in_force.at(moment)
        features = self.features(today, parameters)
        number = f"{self.version}" if cause == "event" else f"{self.version}.{moment}"
        for dimension in dimensions:
            name, rules = dimension["name"], dimension["rules"]
            before = self.segments.get(name)
            place = next(
                place
                for place, rule in enumerate(rules)
                if _holds(rule, features)
                or (rule["segment"] == before and _holds(rule, features, leaving=True))
            )
            for earlier, rule in enumerate(rules[:place]):
                stay = rule.get("stay_days", 0)
                if rule["segment"] == before and today - self.since[name] < stay:
                    place = earlier
                    break
            segment = rules[place]["segment"]
            if segment != before:
                self.segments[name], self.since[name] = segment, today
                yield Change(f"{self.name}/{name}/{number}", before, segment, cause, moment)


def _holds(
    rule: Mapping[str, Any], features: Mapping[str, float], *, leaving: bool = False
) -> bool:
    def holds(condition: Mapping[str, Any]) -> bool:
        value, bound = features.get(condition["feature"]), condition["bound"]
        if leaving:
            bound = condition.get("leave", bound)
        return value is not None and COMPARISONS[condition["is"]](value, bound)

    every, some = rule.get("all", ()), rule.get("any", ())
    return all(map(holds, every)) and (not some or any(map(holds, some)))


def chain(name: str, events: Iterable[Event], in_force: InForce, end: int) -> list[Change]:
    """Return all changes of a customer up to a time, in order.

    events: theirs, in the order of time, which is that in which they are worked on.
    """
    life, changes, last = _Life(name), [], None
    for event in events:
        if last is not None:
            for moment, cause in in_force.moments(last, event.time):
                changes += life.decide(moment, cause, in_force)
        life.take(event)
        changes += life.decide(event.time, "event", in_force)
        last = event.time
    if last is not None:
        for moment, cause in in_force.moments(last, end):
            changes += life.decide(moment, cause, in_force)
    return changes


def check_silences(
    expected: Iterable[Change], records: Iterable[KafkaRecord], prefix: str, verdict: Verdict
) -> None:
    """Whether all changes were told, each under its id, and nothing else was.

    records: of the segment changes; those under an id that was there are for `check_chains`.
    prefix: what the customers' ids begin with.
    """
    told: dict[str, Change] = {}
    for record in records:
        document = json.loads(record.value or b"")
        if document["subject"].startswith(prefix):
            told.setdefault(document["id"], _told(document))
    wanted = {each.id: each for each in expected}
    for name in wanted.keys() - told.keys():
        verdict.note("missing_changes", f"nobody was told of {wanted[name]}")
    for name, each in told.items():
        if name not in wanted:
            verdict.note("wrong_changes", f"nothing brings {each}")
        elif each != wanted[name]:
            verdict.note("wrong_changes", f"{each} was told, should be {wanted[name]}")


def _told(document: Mapping[str, Any]) -> Change:
    data = document["data"]
    as_of = round(datetime.fromisoformat(data["as_of"]).timestamp() * 1000)
    return Change(document["id"], data["previous"], data["current"], data["cause"], as_of)


def by_customer(events: Iterable[Event]) -> dict[str, list[Event]]:
    """Return the events of each customer, in order."""
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for event in events:
        found[event.customer].append(event)
    return found
