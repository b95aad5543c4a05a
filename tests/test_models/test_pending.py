"""What is pending of one customer is bounded, however long the backlog."""

from models.aggregate.record import decode_record
from models.context import Context
from models.economics import Economics
from models.engine import process
from models.outbox import OUTBOX_BYTES, DeliveryState, most_in_flight
from models.segments import Dimension, Rule, named_rules

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

NOW = milliseconds(1_000)
TOPICS = (
    "orders", "support", "customers", "identities", "backfill", "rerouted", "identity", "clock",
)  # fmt: skip

LONGEST = named_rules(
    tuple(
        Dimension(
            name=f"d{number}".ljust(40, "-"),
            rules=(
                Rule.model_validate(
                    {
                        "id": "a" * 40,
                        "segment": f"{number}{'€' * 58}",
                        "all": [
                            {"feature": feature, "is": "at least", "bound": bound}
                            for feature, bound in (("clv", 30), ("orders", 0), ("purchase_days", 0))
                        ],
                    }
                ),
                Rule(id="b" * 40, segment="𝛼" * 60),
            ),
        )
        for number in range(12)
    ),
    "v" * 90,
)
"""Dimensions whose notices are as long as they can be."""


def flips(count, before=0):
    """Revisions of one order, each of which changes what was earned."""
    return [
        KafkaRecord(
            offset,
            milliseconds(1),
            b"c1",
            body(
                "order.placed",
                {
                    "customer_id": "c1", "order_id": "o", "placed_at": at(1), "currency": "USD",
                    "total": "1.00" if offset % 2 else "900.00", "revision": before + offset,
                },
            ),
        )
        for offset in range(count)
    ]  # fmt: skip


def test_a_batch_ends_where_too_much_is_pending_and_goes_on_when_it_was_told():
    context = Context(Economics(), PARAMETERS)
    records, states, told = flips(5_000), {}, -1

    def delivery(_origin, offset):
        return DeliveryState.DELIVERED if offset <= told else DeliveryState.IN_FLIGHT

    parts, changes = [], 0
    while records:
        outputs = process(states, "orders/0", records, context, now=NOW, delivery_of=delivery)
        states[b"c1"] = outputs.records[b"c1"]
        changes += len(outputs.segment_changes)
        again = process(
            states, "orders/0", records[outputs.taken :], context, now=NOW, delivery_of=delivery
        )
        assert again.taken == 0
        assert len(states[b"c1"]) < OUTBOX_BYTES + 1_000
        parts.append(outputs.taken)
        records = records[outputs.taken :]
        told = 4_999 - len(records)
    assert sum(parts) == 5_000
    assert max(parts) == most_in_flight(context.entry_bytes)
    assert decode_record(states[b"c1"]).version == 5_000
    assert changes >= 5_000


def test_whatever_was_not_told_in_former_lives_the_record_can_be_stored():
    """Each topic leaves as much as it can, and the worker dies before anything is told."""
    context = Context(Economics(), PARAMETERS, rules=LONGEST)
    states = {}

    def live(origin, records):
        return process(
            states, origin, records, context, now=NOW, delivery_of=lambda *_: DeliveryState.UNKNOWN
        )

    for before, topic in enumerate(TOPICS):
        origin = f"{topic}.{'x' * 190}/9999"
        records = flips(3_000, before * 3_000)
        outputs = live(origin, records)
        states[b"c1"] = outputs.records[b"c1"]
        # Killed: what was not committed comes again, and nothing new before it is through.
        assert live(origin, records[: outputs.taken]).records == {}
    assert len(states[b"c1"]) > len(TOPICS) * OUTBOX_BYTES / 2
    assert len(states[b"c1"]) < len(TOPICS) * OUTBOX_BYTES + 1_000


def test_there_is_always_room_for_one():
    assert most_in_flight(60 * LONGEST.entry_bytes) == 1
