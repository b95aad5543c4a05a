"""The limit: librdkafka hands over records in bulk, and each is decoded; nothing is kept.

With `produce` an output of a constant size follows each. Its totals are its last line.
"""

import json
import signal
import sys

from confluent_kafka import Message

from benchmarks.contenders.customer import UNITS, event_of
from benchmarks.contenders.librdkafka import consume
from benchmarks.contenders.settings import Settings
from models.contracts import OrderPlaced, OrderRefunded, TicketOpened, money_units

OUTPUT = b'{"customer_id":"c0000000","orders":1,"revenue":40.0,"refunded":0.0,"value":24.0}'


class Totals:
    """Sums over all events, so that the runner sees that each was decoded."""

    def __init__(self) -> None:
        self.orders = self.revenue = self.refunded = self.contacts = 0
        self.customers: set[str] = set()

    def add(self, message: Message) -> None:
        """Decode a record and count it."""
        event = event_of(message.key(), message.value(), message.headers())
        self.customers.add(event.data.customer_id)
        match event.data:
            case OrderPlaced(total=total):
                self.orders += 1
                self.revenue += money_units(total)
            case OrderRefunded(amount=amount):
                self.refunded += money_units(amount)
            case TicketOpened():
                self.contacts += 1

    def add_and_answer(self, message: Message) -> bytes:
        """The same, with an output."""
        self.add(message)
        return OUTPUT

    def document(self) -> dict[str, float]:
        """Return the sums in the names of the other contenders' outputs."""
        return {
            "customers": len(self.customers),
            "orders": self.orders,
            "revenue": self.revenue / UNITS,
            "refunded": self.refunded / UNITS,
            "contacts": self.contacts,
        }


def main() -> None:
    totals = Totals()
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    process = totals.add_and_answer if sys.argv[1:] == ["produce"] else totals.add
    consume(Settings.from_environ(), process, lambda: bool(stopping))
    print(json.dumps(totals.document()), flush=True)


if __name__ == "__main__":
    main()
