"""Events that must be refused, each for one reason."""

from __future__ import annotations

from streams.kafka.partitions import home_partition
from tests.faults.items import Item
from tests.faults.maker import HISTORY_DAYS, SOURCES, Maker

WITHOUT_RATE = "CHF"

KINDS = (
    "bytes", "broken json", "no event", "unknown type", "missing field", "money as number",
    "negative money", "no rate", "future", "nobody's", "empty", "too large", "wrong topic",
    "placeholder",
)  # fmt: skip


class Refused:
    """Makes them. too_large: how many records of more than a MiB there may be."""

    def __init__(self, maker: Maker, too_large: int) -> None:
        self.maker = maker
        self.dice = maker.dice
        self.too_large = too_large

    def add(self, customer: str, days: float) -> None:
        """Make one of any kind."""
        kind = self.dice.choice(KINDS)
        if kind == "too large":
            if self.too_large == 0:
                kind = "bytes"
            else:
                self.too_large -= 1
        data = self.maker.order_data(customer, days, f"refused{self.maker.next()}")
        event_type = "order.placed"
        if kind == "unknown type":
            event_type = "order.shipped"
        elif kind == "missing field":
            del data[self.dice.choice(["order_id", "placed_at", "currency", "total"])]
        elif kind == "money as number":
            data["total"] = 12.5
        elif kind == "negative money":
            data["total"] = "-12.50"
        elif kind == "no rate":
            data["currency"] = WITHOUT_RATE
        elif kind == "placeholder":
            data["order_id"] = self.dice.choice(["null", "N/A", "Undefined"])
        elif kind == "future":
            days = HISTORY_DAYS + 1.25 + self.dice.random() * 3
            data["placed_at"] = self.maker.at(days)
        elif kind == "nobody's":
            data = self.maker.ticket_data(f"t{self.maker.next()}", days, "opened_at")
            data["channel"] = "web"
            event_type = "ticket.opened"
        event = self.maker.event(data, event_type, SOURCES[0], customer, days)
        text = event.value
        damaged = {
            "bytes": b"\xff\xfe\x00" + self.dice.randbytes(20) + text,
            "broken json": text[: self.dice.randint(1, len(text) - 1)],
            "no event": b'["%s", %d]' % (customer.encode(), self.maker.next()),
            "empty": b"",
            "too large": text + b" " * (1_048_577 - len(text) + self.dice.randint(0, 99)),
        }
        key = None if kind == "nobody's" else event.key
        position = min(days, HISTORY_DAYS)
        event = event._replace(value=damaged.get(kind, text), key=key)
        if kind == "wrong topic":
            event = event._replace(topic=self.dice.choice(["support", "customers", "identities"]))
        self.maker.placed.append((position, Item(event, _home(event.key, self.maker.partitions))))


def _home(key: bytes | None, partitions: int) -> int | None:
    return None if key is None else home_partition(key, partitions)
