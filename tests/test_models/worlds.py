"""Customers on partitions of their own, whose workers may die at any moment."""

import json
from collections import defaultdict

from models.aggregate.fold import fold
from models.aggregate.record import customers
from models.aggregate.state import Aggregate
from models.context import Context
from models.contracts import TOPIC_OF_TYPE
from models.economics import Economics
from models.engine import exchange, process
from models.outbox import DeliveryState
from models.recent import Recent
from models.routing import route_header, without_route

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

ECONOMICS = Economics()
CONTEXT = Context(ECONOMICS, PARAMETERS, erasure_key=b"secret")
NOW = milliseconds(1_000)


class World:
    """Every customer id is a partition of its own, read by one worker that may die at any moment.

    What a worker has in memory is ahead of what is stored, and that of what is told and committed;
    several batches may be on their way, each step of them in their order.
    """

    def __init__(self, context=CONTEXT):
        self.context = context
        self.logs = defaultdict(list)
        self.done = defaultdict(int)
        self.told = defaultdict(int)
        self.committed = defaultdict(int)
        self.states = defaultdict(dict)
        self.stored = defaultdict(dict)
        self.to_store = defaultdict(list)
        self.to_tell = defaultdict(list)
        self.published = {}
        self.notices = []
        self.letters = []
        self.recent = Recent()
        """Never cleared: a worker that dies leaves it behind, and it must not matter."""

    def publish(self, topic, key, value, headers=(), partition=None):
        log = self.logs[topic, partition or key]
        log.append(KafkaRecord(len(log), NOW, key.encode(), value, tuple(headers)))

    def say(self, type_, customer, **data):
        topic = TOPIC_OF_TYPE[type_]
        self.publish(topic, customer, body(type_, {"customer_id": customer, **data}))

    def put(self, event, customer):
        """Publish an event to the topic of its type."""
        value = event.model_dump_json().encode()
        self.publish(TOPIC_OF_TYPE[event.type], customer, value)

    def work(self, tp, count=1):
        """Work on some records; nothing of it is stored yet."""
        topic, customer = tp
        start = self.done[tp]
        records = self.logs[tp][start : start + count]
        states, origin = self.states[customer], f"{topic}/{MANY.index(customer)}"
        if topic == "identity":
            outputs = exchange(states, origin, records, self.context, delivery_of=self.delivery)
        else:
            outputs = process(
                states, origin, records, self.context, now=NOW, role=topic,
                at_home=lambda key: key == customer.encode(), delivery_of=self.delivery,
                recent=self.recent,
            )  # fmt: skip
        assert outputs.taken == len(records)
        self.done[tp] = start + len(records)
        apply(states, outputs.records)
        for key, message in outputs.messages:
            self.publish("identity", key.decode(), message)
        self.letters += outputs.dead_letters
        self.to_store[customer].append((tp, self.done[tp], outputs))

    def store(self, customer):
        """The changelog gets the records of the oldest batch."""
        batch = self.to_store[customer].pop(0)
        apply(self.stored[customer], batch[-1].records)
        self.to_tell[customer].append(batch)

    def tell(self, customer):
        """What the oldest stored batch led to is told."""
        _, end, outputs = batch = self.to_tell[customer].pop(0)
        for key, message in outputs.handovers:
            self.publish("identity", key.decode(), message)
        for key, record, route in outputs.rerouted:
            headers = [*without_route(record.headers), route_header(route)]
            self.publish("rerouted", key.decode(), record.value, headers)
        for update in outputs.updates:
            self.published[update.customer_id] = update
        for gone in outputs.removed:
            self.published.pop(gone.customer_id, None)
        self.notices += [json.loads(document) for _, document in outputs.segment_changes]
        self.told[batch[0]] = end

    def commit(self, tp):
        self.committed[tp] = self.told[tp]

    def crash(self, customer):
        """The worker of a customer dies; the next one knows what is stored and committed."""
        self.to_store[customer].clear()
        self.to_tell[customer].clear()
        self.states[customer] = dict(self.stored[customer])
        for tp in [tp for tp in self.logs if tp[1] == customer]:
            self.done[tp] = self.told[tp] = self.committed[tp]

    def rewind(self, customer):
        """Somebody sets the group's offsets of a customer back to the beginning."""
        for tp in self.logs:
            if tp[1] == customer:
                self.committed[tp] = 0
        self.crash(customer)

    def possible(self):
        """All that may happen next; what was begun first."""
        steps = [(self.tell, name, name) for name in MANY if self.to_tell[name]]
        steps += [(self.store, name, name) for name in MANY if self.to_store[name]]
        steps += [
            (self.commit, tp, tp[1]) for tp in self.logs if self.committed[tp] < self.told[tp]
        ]
        return steps + [
            (self.work, tp, tp[1])
            for tp, log in sorted(self.logs.items())
            if self.done[tp] < len(log)
        ]

    def step(self, tp, count=1):
        """Work on some records and see them through."""
        self.work(tp, count)
        self.store(tp[1])
        self.tell(tp[1])
        self.commit(tp)

    def run(self, choose=lambda steps: steps[0], crash=lambda: False):
        """Work until nothing is left to be done."""
        taken = 0
        while steps := self.possible():
            taken += 1
            assert taken < 5_000, "it goes round for ever"
            step, what, customer = choose(steps)
            step(what)
            if crash():
                self.crash(customer)

    def delivery(self, origin, offset):
        topic, number = origin.split("/")
        tp = topic, MANY[int(number)]
        if offset < self.told[tp]:
            return DeliveryState.DELIVERED
        return DeliveryState.IN_FLIGHT if offset < self.done[tp] else DeliveryState.UNKNOWN

    def notices_once(self):
        """The notices once each, in their order; those of one id say the same."""
        once = {}
        for notice in self.notices:
            assert once.setdefault(notice["id"], notice) == notice
        return list(once.values())

    def present(self):
        return {
            key.decode(): record
            for states in self.states.values()
            for key, record in customers(states)
        }


def apply(states, records):
    for key, record in records.items():
        if record is None:
            states.pop(key, None)
        else:
            states[key] = record


def reckoned(all_events, erased_at=-1):
    state = Aggregate()
    for each in all_events:
        if round(each.data.occurred_at.timestamp() * 1000) > erased_at:
            fold(state, each, ECONOMICS)
    return state


IDS = ["ann", "bea", "cyd"]
MANY = [*IDS, "dot"]


def check_chains(world):
    """Whoever follows the changes, each once, knows the segments of every customer."""
    known = defaultdict(dict)
    versions = defaultdict(int)
    for notice in world.notices_once():
        data = notice["data"]
        customer = data["customer_id"]
        assert data["version"] >= versions[customer]
        versions[customer] = data["version"]
        if notice["type"] == "clv.customer-removed":
            known.pop(customer, None)
        else:
            assert known[customer].get(data["dimension"]) == data["previous"]
            assert data["reason"]["values"]
            known[customer][data["dimension"]] = data["current"]
    assert dict(known) == {name: record.segments for name, record in world.present().items()}


def order(number, days, customer="ann"):
    return {
        "order_id": f"{customer}{number}", "placed_at": at(days), "currency": "USD", "total": "40",
    }  # fmt: skip
