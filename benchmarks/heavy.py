"""What an event costs a customer with few orders or with many: the engine alone."""

from __future__ import annotations

import random
import sys
import time
from dataclasses import dataclass

from benchmarks.workload import HEADERS, SPAN_SECONDS, START, order
from models.context import Context
from models.engine import process
from models.recent import Recent

COPIES = 200
ROUNDS = 10
BATCH = 1_000


@dataclass(frozen=True)
class Record:
    """A Kafka record, as the engine reads it."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True)
class Heavy:
    """A customer with so many orders: bytes of the stored record, µs of a further order.

    memory: of the record as a worker holds it, without its key. lately: µs of an order that comes
    soon after another, while the customer is still decoded.
    """

    orders: int
    record: int
    memory: int
    microseconds: float
    lately: float


def measure(orders: int, context: Context) -> Heavy:
    """Fold a customer's orders over two years, then further ones of 200 such customers."""
    rng = random.Random(1)
    states: dict[bytes, bytes] = {}
    number = 0

    def fold(keys: list[bytes], seconds: list[float], recent: Recent | None = None) -> None:
        nonlocal number
        batch = []
        for key, at in zip(keys, seconds, strict=True):
            event = order(number, key, at, rng)
            batch.append(Record(number, event.timestamp, key, event.value, HEADERS))
            number += 1
        now = batch[-1].timestamp
        outputs = process(states, "shop.orders/0", batch, context, now=now, recent=recent)
        states.update((key, value) for key, value in outputs.records.items() if value is not None)

    times = sorted(START + SPAN_SECONDS * rng.random() for _ in range(orders))
    for first in range(0, orders, BATCH):
        chunk = times[first : first + BATCH]
        fold([b"c"] * len(chunk), chunk)
    stored = states[b"c"]
    keys = [b"c%05d" % copy for copy in range(COPIES)]
    spent = []
    for recent in (None, Recent()):
        states = dict.fromkeys(keys, stored)
        day = START + SPAN_SECONDS
        if recent is not None:
            # Decodes them.
            fold(keys, [day] * COPIES, recent)
        began = time.process_time()
        for after in range(1, ROUNDS + 1):
            fold(keys, [day + after * 86_400.0] * COPIES, recent)
        spent.append((time.process_time() - began) / (COPIES * ROUNDS) * 1e6)
    return Heavy(orders, len(stored), sys.getsizeof(stored), *spent)
