"""A known set of events with everything in it that goes wrong in a shop, from a seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime

from streams.files.outgoing import OutgoingEvent
from tests.faults.erasures import erase_midway
from tests.faults.identities import change_identities
from tests.faults.items import Item, Placed
from tests.faults.long_histories import add_long_histories, names_of_long
from tests.faults.maker import MOST_EVENTS, Maker
from tests.faults.misrouting import misplace
from tests.faults.ordinary import add_ordinary


class Workload:
    """The events of one run, in the order of publishing; the same for the same arguments.

    customers: their ids begin with `run_id` and have one length, so that none contains another.
    now: the time of the run. Nothing lies more than 15 hours after it but events that must be
    refused, and those lie more than 30, so that it does not matter when in the run they arrive.
    events: of ordinary customers. plain: unique orders, tickets and acquisitions only, in order,
    under their own keys, and nothing of what follows. identity: customers are merged and erased
    too. too_large: how many records of more than a MiB; they compress well, and must be published
    compressed. long_histories: how many customers there are beside the others with more of a kind
    than is remembered. erased_midway: how many of the ordinary ones are erased as of a time between
    their events.
    """

    def __init__(
        self,
        seed: int,
        customers: int,
        events: int,
        run_id: str,
        *,
        now: datetime | None = None,
        partitions: int = 4,
        plain: bool = False,
        identity: bool = False,
        too_large: int = 2,
        long_histories: int = 0,
        erased_midway: int = 0,
    ) -> None:
        if events > customers * MOST_EVENTS // 2:
            raise ValueError(
                f"{events} events of {customers} customers: at most {MOST_EVENTS // 2} each on "
                "average, or a customer's past is no longer remembered one by one"
            )
        now = datetime.now(UTC) if now is None else now
        self.run_id = run_id
        self.now = now.replace(microsecond=0)
        self.customers = [f"{run_id}-{number:06d}" for number in range(customers)]
        self.long: list[str] = []
        maker = Maker(random.Random(seed), run_id, self.now, self.customers, partitions)
        add_ordinary(maker, events, plain=plain, too_large=too_large)
        if not plain:
            erase_midway(maker, erased_midway)
        if identity:
            change_identities(maker)
        if not plain:
            misplace(maker)
            self.long = names_of_long(run_id, long_histories, partitions)
            add_long_histories(maker, self.long)
        self.items: list[Item] = [item for _, item in sorted(maker.placed, key=lambda p: p[0])]

    @property
    def events(self) -> list[OutgoingEvent]:
        """All events in the order of publishing."""
        return [item.event for item in self.items]

    def add(self, more: list[Placed]) -> None:
        """Publish these too."""
        placed = [Placed(n / len(self.items), item) for n, item in enumerate(self.items)]
        # In the order in which they are given where they are at one place.
        self.items = [item for _, item in sorted([*placed, *more], key=lambda each: each.share)]
