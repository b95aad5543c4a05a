"""Publishers of orders, support and acquisitions can do nothing to customers of other publishers.

The fuzzer of `test_hostile_million.py` is about values; this one is about everything around them:
keys, topics, headers that look like those of the service, and types on the topics of others.
"""

import json
import random
import resource
from collections import defaultdict

import pytest

from models.aggregate.record import decode_record
from models.context import Context
from models.contracts import TOPIC_OF_TYPE, TYPES_OF_TOPIC
from models.economics import Economics
from models.engine import exchange, process
from models.routing import route_header, without_route
from streams.kafka.partitions import home_partition

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

SIZES = [(20_000, 500), pytest.param(1_000_000, 5_000, marks=pytest.mark.slow)]
"""How many records, and how many of them between two batches of the honest."""
PARTITIONS = 4
NOW = milliseconds(1_000)
CONTEXT = Context(Economics(), PARAMETERS, erasure_key=b"secret")
MOST_MEMORY = 200 * 1024 * 1024
"""Bytes that a million records may leave in the process, letters let go."""

HONEST = [f"honest-{number}" for number in range(20)]
GOES, STAYS, ERASED = HONEST[:3]
FOREIGN = [f"x{number}" for number in range(3_000)]
WRITABLE = ("orders", "support", "customers")
"""The topics that the hostile publishers may write to."""

MEASURES = {
    "order.placed": {"currency": "USD", "total": "40.00"},
    "order.refunded": {"currency": "USD", "amount": "4.00"},
    "order.cancelled": {},
    "ticket.opened": {"channel": "email"},
    "ticket.resolved": {"handling_minutes": 5},
    "ticket.rated": {"score": 4, "scale": {"min": 1, "max": 5}},
    "survey.answered": {"kind": "nps", "score": 9, "scale": {"min": 0, "max": 10}},
    "customer.acquired": {"cost": "5.00", "currency": "USD"},
    "customer.merged": {"merged_from": GOES},
    "customer.erased": {},
}
TIMES = {
    "order.placed": "placed_at", "order.refunded": "refunded_at", "order.cancelled": "cancelled_at",
    "ticket.opened": "opened_at", "ticket.resolved": "resolved_at", "ticket.rated": "rated_at",
    "survey.answered": "answered_at", "customer.acquired": "acquired_at",
    "customer.merged": "merged_at", "customer.erased": "erased_at",
}  # fmt: skip
IDS = {"order": "order_id", "ticket": "ticket_id", "survey": "survey_id"}


class Service:
    """The topics of a service and its workers' states, without servers."""

    def __init__(self):
        self.states = [{} for _ in range(PARTITIONS)]
        self.ends = defaultdict(int)
        self.changes = defaultdict(list)
        self.hidden = self.refused = self.accepted = 0

    def work(self, records):
        """Publish these (role, partition, key, value, headers), and work on all that follows."""
        while records:
            by_place = defaultdict(list)
            for role, partition, key, value, headers in records:
                offset = self.ends[role, partition]
                self.ends[role, partition] += 1
                by_place[role, partition].append(KafkaRecord(offset, NOW, key, value, headers))
            records = []
            for (role, partition), rest in by_place.items():
                taken = 0
                while taken < len(rest):
                    outputs = self._work_on(role, partition, rest[taken:])
                    taken += outputs.taken
                    records += self._take(outputs, partition)

    def _work_on(self, role, partition, batch):
        origin = f"{role}/{partition}"
        if role == "identity":
            return exchange(self.states[partition], origin, batch, CONTEXT)
        return process(
            self.states[partition], origin, batch, CONTEXT, now=NOW, role=role,
            at_home=lambda key: home_partition(key, PARTITIONS) == partition,
        )  # fmt: skip

    def _take(self, outputs, partition):
        states = self.states[partition]
        for key, record in outputs.records.items():
            if record is None:
                states.pop(key, None)
            else:
                states[key] = record
        self.accepted += outputs.accepted
        self.refused += len(outputs.dead_letters)
        self.hidden += sum(b'"backfill"' in update.document for update in outputs.updates)
        for key, document in outputs.segment_changes:
            self.changes[key].append(document if key.startswith(b"honest") else b"")
        for key, record, route in outputs.rerouted:
            headers = (*without_route(record.headers), route_header(route))
            yield "rerouted", home_partition(key, PARTITIONS), key, record.value, headers
        for key, message in (*outputs.messages, *outputs.handovers):
            yield "identity", home_partition(key, PARTITIONS), key, message, ()

    def honest(self):
        """What is stored of the honest customers, but for the offsets."""
        found = {}
        for states in self.states:
            for key, data in states.items():
                if key.startswith(b"honest"):
                    r = decode_record(data)
                    found[key] = r.version, r.aggregate, r.segments, r.into, list(r.absorbed)
        return found


def told(kind, customer, number, day):
    data = {TIMES[kind]: at(day), **MEASURES[kind]}
    family = kind.partition(".")[0]
    if family in IDS:
        data[IDS[family]] = f"{number}"
    if kind == "order.refunded":
        data["refund_id"] = f"r{number}"
    if customer is not None:
        data["customer_id"] = customer
    return body(kind, data)


def honest_records(number):
    """What shop and privacy desk publish between two batches of the others."""
    records = []
    for place, name in enumerate(HONEST):
        kind = "order.placed" if (number + place) % 3 else "ticket.opened"
        value = told(kind, name, f"{number}", 10 + number)
        records.append((TOPIC_OF_TYPE[kind], name, value))
    if number == 20:
        records.append(("identities", STAYS, told("customer.merged", STAYS, 0, 30)))
        records.append(("identities", ERASED, told("customer.erased", ERASED, 0, 900)))
    return [
        (role, home_partition(name.encode(), PARTITIONS), name.encode(), value, ())
        for role, name, value in records
    ]


def forged_headers(dice):
    """Headers that would mean something where only workers or operators write."""
    via = dice.choice([[GOES, STAYS], [STAYS], ["y" * 700_000], [ERASED]] + [[GOES]] * 20)
    route = {
        "origin": f"{dice.choice(WRITABLE)}/{dice.randrange(PARTITIONS)}",
        "offset": dice.choice([0, 10**12]), "key": None, "through": ["1"] * dice.randrange(3),
        "via": via, "backfill": True,
    }  # fmt: skip
    names = {
        "clv.route": json.dumps(route).encode(),
        "clv.backfill": b"1",
        "clv.merged-via": json.dumps(via).encode(),
        "clv.retried-from": b"clv.dead-letters[0]@1",
        "clv-version": b"999999999",
        "clv.cut": b"5",
        "__streams.errors.topic": b"shop.identities",
        "__streams.errors.offset": b"-1",
        "": b"",
        "\\xff": b"\xff",
    }
    chosen = dice.sample(sorted(names), dice.randrange(1, len(names)))
    headers = tuple((name, names[name]) for name in chosen)
    return headers * dice.choice([1] * 16 + [2, 2, 2, 300]) if len(via[0]) < 100 else headers


def hostile_record(dice, forged, number):
    """A record by somebody who may write to the topics for orders, support and acquisitions."""
    role = dice.choice(WRITABLE)
    kind = dice.choice(TYPES_OF_TOPIC[role])
    whose = dice.choice(FOREIGN)
    key = dice.choice([whose, whose, whose, *HONEST[:4], ""]).encode()
    chance = dice.random()
    if chance < 0.25:
        # An event about an honest customer, of a type that is not this topic's.
        kind = dice.choice([k for k in TOPIC_OF_TYPE if k not in TYPES_OF_TOPIC[role]])
        whose = dice.choice(HONEST)
        key = whose.encode()
    elif chance < 0.30:
        whose, key = None, dice.choice([b"\xff", b"k" * 300, b" ", None])
    value = told(kind, whose, number % 2_000, dice.randrange(1_000))
    if chance > 0.97:
        value = dice.choice([b"", b"{}", value[:-1], b"[]"])
    headers = dice.choice(forged) if dice.random() < 0.8 else ()
    return role, dice.randrange(PARTITIONS), key, value, headers


@pytest.mark.heavy
@pytest.mark.parametrize(("count", "batch"), SIZES)
def test_a_million_records_of_hostile_publishers_touch_nobody_elses_customers(count, batch):
    dice = random.Random(5)
    forged = [forged_headers(dice) for _ in range(400)]
    alone, beset = Service(), Service()
    before = 0
    for number in range(count // batch):
        honest = honest_records(number)
        alone.work(list(honest))
        hostile = [hostile_record(dice, forged, number * batch + n) for n in range(batch)]
        for record in honest:
            hostile.insert(dice.randrange(len(hostile)), record)
        beset.work(hostile)
        assert beset.honest() == alone.honest()
        if number == 20:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert STAYS.encode() in alone.honest()
    assert alone.honest()[GOES.encode()][3] == STAYS
    for name in HONEST:
        assert beset.changes[name.encode()] == alone.changes[name.encode()] != []
    assert beset.hidden == 0
    assert beset.accepted > count // 10
    assert beset.refused > count // 4
    assert any(beset.changes[name.encode()] for name in FOREIGN)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert (after - before) * 1024 < MOST_MEMORY
