"""New parameters while events come in: everybody is scored again, and nobody waits."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import process_time

import pytest

from models.context import Context
from models.economics import Economics
from models.engine import advance
from models.prior import prior
from streams.batch import fold_events
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.fitter.publishing import put_in_force
from streams.kafka.partitions import TopicPartition
from streams.pacing import FIRST
from streams.publisher import Publisher
from streams.transport.memory.broker import Record
from tests.test_models.parameters import PARAMETERS

from .cluster import Cluster, cluster

CUSTOMERS, LIVE = 8_000, 40
GAP = 0.02
PAUSE = 0.2
"""Seconds for which a swap may keep events waiting."""


def order(customer: str, number: int, moment: datetime) -> OutgoingEvent:
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"{customer}-{number}", time=moment,
        data={
            "order_id": f"{customer}-{number}", "customer_id": customer, "placed_at": moment,
            "currency": "USD", "total": "40.00",
        },
        customer_id=customer,
    )  # fmt: skip


def everybody(moment: datetime) -> list[OutgoingEvent]:
    return [
        order(f"c{number}", n, moment - timedelta(days=30 * (3 - n)))
        for number in range(CUSTOMERS)
        for n in range(1 + number % 3)
    ]


async def keep_buying(service: Cluster, sent: Counter[str]) -> None:
    """An order every 20 ms until cancelled, by each of a few customers in turn."""
    async with Publisher(service.broker, service.settings.topics, service.partitions) as publisher:
        while True:
            customer = f"live{sent.total() % LIVE}"
            await publisher.publish([order(customer, sent.total(), datetime.now(UTC))])
            sent[customer] += 1
            await asyncio.sleep(GAP)


@pytest.mark.heavy
async def test_a_swap_stops_no_event_and_loses_none(tmp_path: Path, capsys):
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish(everybody(datetime.now(UTC)))
        await service.settled()
        sent = Counter[str]()
        buying = asyncio.create_task(keep_buying(service, sent))
        await asyncio.sleep(1)
        new = PARAMETERS.model_copy(update={"holds_from": datetime.now(UTC)})
        await put_in_force(service.settings, service.broker, service.partitions, new)
        topics = service.settings.topics
        clock = [TopicPartition(topics.clock, number) for number in range(service.partitions)]
        await service.committed(await service.log.ends(clock))
        await asyncio.sleep(1)
        buying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await buying
        await service.settled()
        orders = await service.records(topics.orders)
        updates = await service.records(topics.updates)
        values = await service.updates()
        letters = await service.records(topics.dead_letters)
    assert not letters
    assert {each["model"]["version"] for each in values.values()} == {PARAMETERS.version}
    placed: defaultdict[str, list[int]] = defaultdict(list)
    for each in orders:
        placed[each.key.decode()].append(each.timestamp)
    assert {who: each["totals"]["orders"] for who, each in values.items()} == {
        who: len(times) for who, times in placed.items()
    }
    assert sum(len(placed[who]) for who in sent) - sent.total() in (0, 1)  # One was cancelled.
    begin, end, waited = within_the_swap(updates, placed)
    with capsys.disabled():
        print(
            f"\na swap over {CUSTOMERS:,} customers took {(end - begin) / 1_000:.1f} s; "
            f"{len(waited['during'])} orders meanwhile waited for "
            f"{median(waited['during']):.0f} ms "
            f"(at most {max(waited['during'])}), others {median(waited['else']):.0f} ms "
            f"(at most {max(waited['else'])})"
        )
    # The machine of a test may be busy with others: how long a worker computes is told below.
    assert median(waited["during"]) < 5_000 * PAUSE
    assert max(waited["during"]) < 25_000 * PAUSE


def within_the_swap(
    updates: list[Record], placed: dict[str, list[int]]
) -> tuple[int, int, dict[str, list[int]]]:
    """When the sweep began and ended, and how long each order of the live customers waited for its
    update, in milliseconds: of those placed meanwhile, and of the others."""
    swept: list[int] = []
    told: dict[str, list[int]] = defaultdict(list)
    for each in updates:
        who, data = each.key.decode(), json.loads(each.value or b"")["data"]
        if not who.startswith("live"):
            swept += [each.timestamp] * (data["model"]["version"] == PARAMETERS.version)
        told[who] += [each.timestamp] * (data["totals"]["orders"] - len(told[who]))
    assert len(swept) == CUSTOMERS
    begin, end = min(swept), max(swept)
    waited: dict[str, list[int]] = {"during": [], "else": []}
    for who, times in placed.items():
        if who.startswith("live"):
            for asked, answered in zip(times, told[who], strict=True):
                waited["during" if begin <= asked <= end else "else"].append(answered - asked)
    assert waited["during"], "no order was placed during the sweep"
    return begin, end, waited


def test_what_is_scored_between_two_events_takes_a_fraction_of_the_longest_pause():
    moment = datetime(2026, 1, 3, tzinfo=UTC)
    economics = Economics(currency="USD")
    told = everybody(moment)
    states = fold_events(told, Context(economics), moment + timedelta(days=1)).states
    customers = [key for key in states if key.startswith(b"c")]
    timeline = PARAMETERS.held_always()
    assert prior("USD").version != timeline.version
    times = []
    for number in range(4):
        chunk = customers[FIRST * number : FIRST * (number + 1)]
        begin = process_time()
        outputs = advance(
            states, chunk, "clock/0", 2**40, Context(economics, timeline),
            as_of=round(moment.timestamp() * 1_000) + 86_400_000, cause="model",
        )  # fmt: skip
        times.append(process_time() - begin)
        assert len(outputs.updates) == FIRST
    assert min(times) < PAUSE / 2
