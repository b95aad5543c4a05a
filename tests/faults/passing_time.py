"""Customers who buy and fall silent over more than a year that passes while something breaks.

The service's clock is set from stage to stage. What happens in a stage is later than what anybody
was told of, and is worked on before the clock goes on: so it never comes late, and what must be
told of each customer follows from their own events.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from models.contracts import TOPIC_OF_TYPE
from streams.files.outgoing import OutgoingEvent, cloud_event
from tests.faults.items import Item
from tests.faults.published import milliseconds, read_event
from tests.faults.silences import PRIOR, Change, Dimensions, InForce, Purchases, by_customer, chain

RULES_FILE = Path(__file__).with_name("silences.toml")
DAY_SECONDS = 86_400
BUSY_STAGES = 6
BUSY_JUMPS = (1.0, 2.0, 7.0, 20.0, 45.0, 80.0)
SOURCE = "/shop/eu"

FIRST_HOUR, LAST_HOUR = 3.0, 20.0
"""Hours after a stage's time in which its events are dated: later than what a clock that is two
hours fast has swept, and no more than a day ahead of one that is as slow."""

OTHER_PURCHASES = Purchases(0.8, 40.0, 0.9, 1.9, 0.05)
"""Come into force in some runs."""


class Stage(NamedTuple):
    """What the service's clock is set to, and what is published then."""

    clock: datetime
    items: list[Item]


class PassingTime:
    """The events of one run, by stages; the same for the same arguments.

    now: the time of the run; the last stage is a little before. renewed: whether other parameters,
    and later other rules, come into force on the way.
    """

    def __init__(
        self,
        seed: int,
        customers: int,
        run_id: str,
        *,
        now: datetime | None = None,
        renewed: bool = False,
    ) -> None:
        self._dice = random.Random(f"time passes {seed}")
        self._serial = 0
        now = datetime.now(UTC) if now is None else now
        self.run_id = run_id
        self.now = now.replace(microsecond=0)
        self.customers = [f"{run_id}-{number:06d}" for number in range(customers)]
        self.long: list[str] = []
        self.new_parameters_at: datetime | None = None
        self.new_rules_at: datetime | None = None
        clocks = self._clocks()
        if renewed:
            # Between two stages, and at no midnight.
            self.new_parameters_at = clocks[BUSY_STAGES // 2] + timedelta(hours=21)
            self.new_rules_at = clocks[BUSY_STAGES] + timedelta(days=2, minutes=7)
        self.stages = [
            Stage(clock, self._items(clock, number)) for number, clock in enumerate(clocks)
        ]
        # Somebody sets the clock back, and then right.
        back = clocks[-2] - timedelta(days=self._dice.uniform(1, 40))
        self.stages.insert(-1, Stage(back, []))

    def _clocks(self) -> list[datetime]:
        """Return the times of all stages: some days apart, and then with long silences between."""
        dice = self._dice
        gaps = [dice.choice(BUSY_JUMPS) * dice.uniform(1.0, 1.3) for _ in range(BUSY_STAGES)]
        gaps += [1.0, dice.uniform(10, 30), dice.uniform(60, 120)]
        last = self.now - timedelta(minutes=5)
        clocks = [last]
        for days in reversed(gaps):
            clocks.insert(0, clocks[0] - timedelta(seconds=round(days * DAY_SECONDS)))
        return clocks

    @property
    def end(self) -> datetime:
        """The time up to which everything must be told."""
        return self.stages[-1].clock

    @property
    def items(self) -> list[Item]:
        """All events in the order of publishing."""
        return [item for stage in self.stages for item in stage.items]

    @property
    def events(self) -> list[OutgoingEvent]:
        """The same as they are published."""
        return [item.event for item in self.items]

    def in_force(self) -> InForce:
        """Return what holds from when."""
        rules: list[tuple[int, Dimensions]] = [(0, dimensions())]
        parameters = [(0, PRIOR)]
        if self.new_rules_at is not None:
            rules.append((milliseconds(self.new_rules_at), other_dimensions()))
        if self.new_parameters_at is not None:
            parameters.append((milliseconds(self.new_parameters_at), OTHER_PURCHASES))
        return InForce(rules, parameters)

    @cached_property
    def expected(self) -> list[Change]:
        """The changes of all customers, as an independent walk finds them."""
        events = by_customer(read_event(each.key, each.value, each.headers) for each in self.events)
        in_force, end = self.in_force(), milliseconds(self.end)
        return [
            change for name, those in events.items() for change in chain(name, those, in_force, end)
        ]

    def _items(self, clock: datetime, stage: int) -> list[Item]:
        if stage >= BUSY_STAGES:
            return []
        made: list[OutgoingEvent] = []
        for number, customer in enumerate(self.customers):
            # Some buy again and again, most do so once or twice; a third come later.
            first, eager = number % 3, 0.75 if number % 5 == 0 else 0.2
            if stage < first or (stage > first and self._dice.random() > eager):
                continue
            orders = stage == first or self._dice.random() < 0.75
            made += self._orders(customer, clock) if orders else self._contact(customer, clock)
        # As they come; a customer's own in the order of time.
        return [Item(event, None) for event in sorted(made, key=lambda each: each.time)]

    def _orders(self, customer: str, clock: datetime) -> Iterable[OutgoingEvent]:
        hours = sorted(self._dice.uniform(FIRST_HOUR, LAST_HOUR) for _ in range(3))
        for at in hours[: self._dice.choice([1, 1, 1, 2])]:
            order, placed = f"o{self._next()}", clock + timedelta(hours=at)
            data = {
                "order_id": order, "customer_id": customer, "placed_at": _text(placed),
                "currency": "USD", "total": f"{self._dice.randint(5, 300)}.50",
            }  # fmt: skip
            yield self._event("order.placed", customer, placed, data)
            last = order
        if self._dice.random() < 0.1:
            cancelled = clock + timedelta(hours=hours[-1])
            data = {"order_id": last, "customer_id": customer, "cancelled_at": _text(cancelled)}
            yield self._event("order.cancelled", customer, cancelled, data)

    def _contact(self, customer: str, clock: datetime) -> Iterable[OutgoingEvent]:
        opened = clock + timedelta(hours=self._dice.uniform(FIRST_HOUR, LAST_HOUR))
        data = {
            "ticket_id": f"t{self._next()}", "customer_id": customer, "opened_at": _text(opened),
            "channel": "email",
        }  # fmt: skip
        yield self._event("ticket.opened", customer, opened, data)

    def _event(self, kind: str, customer: str, at: datetime, data: dict[str, Any]) -> OutgoingEvent:
        return cloud_event(
            TOPIC_OF_TYPE[kind], kind, source=SOURCE, event_id=f"{self.run_id}/{self._next()}",
            time=at, data=data, customer_id=customer,
        )  # fmt: skip

    def _next(self) -> int:
        self._serial += 1
        return self._serial


def dimensions() -> Dimensions:
    """Return the dimensions of the file of rules."""
    read: Dimensions = tomllib.loads(RULES_FILE.read_text())["dimensions"]
    return read


def other_dimensions() -> Dimensions:
    """Return those that come into force on the way: with other bounds, and one more."""
    text = RULES_FILE.read_text()
    for former, later in (("bound = 0.45", "bound = 0.5"), ("bound = 0.75", "bound = 0.85")):
        text = text.replace(former, later)
    age: dict[str, Any] = {
        "name": "silence",
        "rules": [
            {
                "id": "short", "segment": "short",
                "all": [{"feature": "days_since_last_order", "is": "below", "bound": 90}],
            },
            {"id": "long", "segment": "long"},
        ],
    }  # fmt: skip
    return [*tomllib.loads(text)["dimensions"], age]


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
