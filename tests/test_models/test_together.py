"""Batches of several partitions that are folded together come to what they come to alone."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.context import Context
from models.economics import Economics
from models.engine import Intake, process, process_together
from models.outbox import OUTBOX_BYTES
from models.recent import Recent
from models.refresh import Refresh

from .events import KafkaRecord, events, milliseconds
from .parameters import PARAMETERS
from .test_catching_up import CONTEXTS, END, histories, said
from .test_engine import store

NOW = milliseconds(END)
EXPLAINED = Context(Economics(), PARAMETERS, refresh=Refresh(), explained=True)


def of_partition(context, number):
    """The context of another partition, whose new customers begin at a version of its own."""
    return Context(
        context.economics,
        context.timeline,
        context.rules_timeline,
        first_version=10 * number,
        refresh=context.refresh,
        explained=context.explained,
    )


def folded(batches, context, rounds, *, together):
    """Fold each partition's records in so many rounds; return states, and all outputs as text."""
    states, made, recent = [{} for _ in batches], [], Recent()
    for part in range(rounds):
        intakes = [
            Intake(
                mine,
                f"shop.orders/{number}",
                records[len(records) * part // rounds : len(records) * (part + 1) // rounds],
                of_partition(context, number),
            )
            for number, (mine, records) in enumerate(zip(states, batches, strict=True))
        ]
        if together:
            outputs = process_together(intakes, now=NOW, recent=recent)
        else:
            outputs = [process(**each._asdict(), now=NOW) for each in intakes]
        for mine, each in zip(states, outputs, strict=True):
            store(mine, each)
        # Compared as texts: an exception, such as a notice's, equals only itself.
        made.append(repr(outputs))
    return states, made


several = st.lists(histories(), min_size=2, max_size=4)


@pytest.mark.parametrize("context", [*CONTEXTS.values(), EXPLAINED], ids=[*CONTEXTS, "explained"])
@given(several, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_partitions_folded_together_come_to_the_same_bytes(context, partitions, rounds):
    batches = [[record for _, record in history] for history in partitions]
    together = folded(batches, context, rounds, together=True)
    assert together == folded(batches, context, rounds, together=False)


@given(st.lists(st.lists(events(), max_size=8), min_size=2, max_size=4))
@settings(max_examples=100, deadline=None)
def test_events_of_all_types_folded_together_come_to_the_same_bytes(partitions):
    batches = [
        [
            KafkaRecord(
                number, NOW, event.data.customer_id.encode(), event.model_dump_json().encode()
            )
            for number, event in enumerate(sequence)
        ]
        for sequence in partitions
    ]
    together = folded(batches, EXPLAINED, 1, together=True)
    assert together == folded(batches, EXPLAINED, 1, together=False)


def test_a_full_outbox_holds_up_its_own_partition_alone(monkeypatch):
    """What one takes in parts, it takes in parts together with another."""
    context = CONTEXTS["windows, stays and bounds to leave"]
    seldom = [said(n, "order.placed", "c1", 30 + 130 * n, n) for n in range(8)]
    often = [said(n, "order.placed", "c2", n, n) for n in range(8)]
    contexts = [of_partition(context, 0), of_partition(context, 1)]
    for each in contexts:
        monkeypatch.setitem(each.__dict__, "entry_bytes", OUTBOX_BYTES // 12 - 530)
    first, second = process_together(
        [
            Intake({}, "shop.orders/0", seldom, contexts[0]),
            Intake({}, "shop.orders/1", often, contexts[1]),
        ],
        now=NOW,
    )
    assert 0 < first.taken < len(seldom)
    assert second.taken == len(often)
