"""Stand-ins for broker, table and cache: the test decides when each delivery arrives."""

import asyncio

from faust.types import TP

from models.aggregate.record import ERASURE_KEY, erasure_fingerprint
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.transport.batches import RecordBatch
from streams.transport.producer import Delivery
from tests.test_models.events import KafkaRecord, at, body, milliseconds


class Promise(asyncio.Future):
    """A delivery that knows what it will say."""

    delivery: Delivery


class Broker:
    """Keeps what was sent, in order; deliveries arrive when told to."""

    def __init__(self):
        self.sent = []
        self.headers = []
        self.deliveries = []
        self.held = False
        self.written = 0

    def send_records(self, topic, partition, records):
        futures = []
        for key, value, headers in records:
            self.sent.append((topic, key, value))
            self.headers.append(headers)
            future = Promise()
            self.written += 1
            future.delivery = Delivery(self.written - 1, self.written)
            if self.held:
                self.deliveries.append(future)
            else:
                future.set_result(future.delivery)
            futures.append(future)
        return futures

    def arrive(self):
        for future in self.deliveries:
            future.set_result(future.delivery)
        self.deliveries.clear()

    def fail(self, error):
        self.deliveries.pop(0).set_exception(error)
        self.arrive()


class Table:
    """Records in memory, and the changelog at the broker."""

    def __init__(self, broker):
        self.broker = broker
        self.of_erased = []
        self.states = {
            ERASURE_KEY: erasure_fingerprint(TESTING_ERASURE_KEY.get_secret_value().encode())
        }

    def partition(self, _number):
        return self.states

    def update_partition(self, _partition, items):
        for key, value in items.items():
            if value is None:
                self.states.pop(key, None)
            else:
                self.states[key] = value

    def erased(self, partition):
        self.of_erased.append(partition)

    def send_items(self, partition, items):
        return self.broker.send_records(
            "changelog", partition, ((k, v, []) for k, v in items.items())
        )


class Cache:
    def __init__(self):
        self.scores, self.removals, self.ends, self.unsure_of = [], [], [], []

    def submit(self, partition, end, scores, removals, *, start):
        self.ends.append(end)
        self.scores += scores
        self.removals += removals

    def unsure(self, partition):
        self.unsure_of.append(partition)

    async def flush(self):
        await asyncio.sleep(0)


class Event:
    """A Faust event of some records."""

    def __init__(self, topic, *records, partition=0):
        self.value = RecordBatch(TP(topic, partition), records)
        self.acked = False

    def ack(self):
        self.acked = True


def orders(offset, *customers, partition=0):
    return Event(
        "shop.orders",
        *(
            KafkaRecord(
                offset + n,
                milliseconds(1),
                customer.encode(),
                body(
                    "order.placed",
                    {
                        "customer_id": customer,
                        "order_id": f"{customer}-{offset}",
                        "placed_at": at(0),
                        "currency": "USD",
                        "total": "40",
                    },
                ),
            )
            for n, customer in enumerate(customers)
        ),
        partition=partition,
    )


def said(kind, customer, offset, **data):
    value = body(f"customer.{kind}", {"customer_id": customer, **data})
    return Event("shop.identities", KafkaRecord(offset, milliseconds(60), customer.encode(), value))


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


def topics(broker):
    return [topic for topic, _, _ in broker.sent]
