"""What must make no difference to what comes of a history, for any short history."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from textwrap import indent
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from models.engine import process
from streams import folding
from streams.testing import running_topology, shop_settings

from .histories import SETUPS, Call, Came, Differs, Setup, calls, check_same, numbered, outcome

# A topology starts in milliseconds, and has several of them in an example.
SLOWLY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=False
)


@given(calls("orders", "advance"), SETUPS)
@SLOWLY
def test_workers_partitions_and_batches_change_neither_values_nor_changes(
    history: list[Call], setup: Setup
) -> None:
    first, second = outcome(numbered(history), Setup()), outcome(numbered(history), setup)
    check_same(history, str(setup), first, second)


@given(calls("orders", "support", "customers", "advance"), SETUPS)
@SLOWLY
def test_on_several_topics_they_do_not_change_the_final_values(
    history: list[Call], setup: Setup
) -> None:
    first, second = outcome(numbered(history), Setup()), outcome(numbered(history), setup)
    check_same(history, str(setup), (first.values, first.refused), (second.values, second.refused))


@given(
    st.one_of(
        calls("orders", "support", "customers", each, "advance") for each in ("merges", "erasures")
    ),
    SETUPS,
)
@SLOWLY
def test_with_merges_and_an_erasure_only_versions_and_segments_may_differ(
    history: list[Call], setup: Setup
) -> None:
    """What a merged customer does at that very time is counted as one step, or as two, or later.

    And the customer who stays may be gone for a moment. Of two erasures of one person, and of an
    erased chain of merges, `tests/test_models/test_erasures.py` holds what the decision promises.
    """
    assume(sum(call.name == "customers.erased" for call in history) <= 1)
    first, second = outcome(numbered(history), Setup()), outcome(numbered(history), setup)
    came = [(without_versions(each), each.refused) for each in (first, second)]
    for values, _ in came:
        for each in values.values():
            del each["segments"]
    check_same(history, str(setup), *came)


def without_versions(came: Came) -> dict[str, Any]:
    """Current values, without their versions and the ids that have them."""
    found = {}
    for customer, document in came.values.items():
        if document:
            found[customer] = json.loads(document)["data"]
            del found[customer]["version"]
    return found


@given(calls("orders", "support", "customers"), SETUPS, st.permutations(range(3)))
@SLOWLY
def test_the_interleaving_of_topics_does_not_change_the_final_values(
    history: list[Call], setup: Setup, turns: list[int]
) -> None:
    """Topic by topic, in any order, in place of the order in which the calls stand.

    The segments may: rules with bounds to leave look at what a customer was on the way, and what
    time had made of them when an event came late.
    """
    topics = ("orders", "support", "customers")
    order = [topics[turn] for turn in turns]
    # Stable: each topic keeps its own order, which is all that Kafka keeps.
    apart = sorted(numbered(history), key=lambda call: order.index(call[1].topic))
    first, second = outcome(numbered(history), Setup()), outcome(apart, setup)
    what = f"{', then '.join(order)}, with {setup},"
    came = [(without_segments(each.values), each.refused) for each in (first, second)]
    check_same(history, what, *came)


def without_segments(values: dict[str, bytes]) -> dict[str, bytes]:
    documents = {customer: json.loads(value) for customer, value in values.items()}
    for each in documents.values():
        del each["data"]["segments"]
    return {customer: json.dumps(each).encode() for customer, each in documents.items()}


def drops_the_end_of_a_batch(
    states: Any, origin: str, records: Iterable[Any], *arguments: Any, **named: Any
) -> Any:
    """An engine that depends on where a batch ends."""
    batch = list(records)
    outputs = process(states, origin, batch[:-1] or batch, *arguments, **named)
    outputs.taken = len(batch)
    return outputs


async def pasted(text: str) -> list[str]:
    """Run calls as the body of a test, and return whose value there is."""
    namespace: dict[str, Callable[..., Any]] = {}
    exec(f"async def test(topology):\n{indent(text, '    ')}", namespace)
    async with running_topology() as topology:
        await namespace["test"](topology)
        return list(await topology.updates.current())


@pytest.mark.slow
async def test_a_fault_is_told_by_a_few_calls_that_can_be_pasted() -> None:
    """As hypothesis leaves it: shrunk."""

    @given(calls("orders", "advance"), SETUPS)
    @settings(
        SLOWLY,
        max_examples=100,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
    )
    def finding(history: list[Call], setup: Setup) -> None:
        first, second = outcome(numbered(history), Setup()), outcome(numbered(history), setup)
        check_same(history, str(setup), first, second)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "process", drops_the_end_of_a_batch)
        with pytest.raises(Differs) as found:
            await asyncio.to_thread(finding)
    said = str(found.value)
    assert said.startswith("Setup(workers=1, partitions=1, poll_records=2) makes a difference:")
    lines = [line.strip() for line in said.splitlines() if "await topology." in line]
    assert 1 <= len(lines) <= 3, said
    assert all(len(line) <= 100 for line in lines), said
    assert set(await pasted("\n".join(lines))) <= {"anna", "bert", "carl"}


def test_an_erasure_while_a_merge_is_in_flight_does_not_depend_on_how_records_are_polled() -> None:
    async def run(poll_records: int) -> dict[str, Any]:
        shop = shop_settings(partitions=1, poll_records=poll_records)
        async with running_topology(shop) as topology:
            await topology.customers.acquired("anna", "3.30", at="2026-01-03")
            refund = {"order": "1", "refund": "1"}
            await topology.orders.refunded("anna", "0.50", at="2026-02-03", **refund)
            await topology.customers.merged("anna", "bert", at="2026-03-03")
            await topology.customers.erased("bert", at="2026-04-03")
            for month in (5, 6, 7, 8):
                await topology.orders.refunded("anna", "0.50", at=f"2026-0{month}-03", **refund)
            records = await topology.topic(shop.topics.updates)
            return without_versions(
                Came({(each.key or b"").decode(): each.value or b"" for each in records}, {}, [])
            )

    assert asyncio.run(run(1)) == asyncio.run(run(2))
