"""History is loaded into a live system, and a subscriber hears of it once."""

import asyncio
import csv
import json
import os
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

from tests.servers import forks

from .cluster import ROOT, cluster
from .test_service import order

START = datetime(2021, 3, 1, 12, tzinfo=UTC)
CUSTOMERS = 40
ORDERS = 30


def history(path):
    """Orders of five years, one line each; returns how many."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["order_id", "customer_id", "placed_at", "total", "currency"])
        for number in range(ORDERS):
            for customer in range(CUSTOMERS):
                placed = START + timedelta(days=number * 60 + customer)
                rows.writerow(
                    [f"h{number}-{customer}", f"c{customer}", placed.isoformat(), "25.00", "USD"]
                )
    return ORDERS * CUSTOMERS


async def clv(service, *arguments):
    process = await forks.start(
        sys.executable, "-m", "streams.cli", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | service.environment(),
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), 180)
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def changes(service):
    """Segment changes by id, those of a customer in their order."""
    found = await service.records(service.settings.topics.segment_changes)
    documents = [json.loads(record.value) for record in found]
    return {document["id"]: document["data"] for document in documents}


async def test_each_customer_changes_once_however_often_the_history_is_loaded(tmp_path):
    path = tmp_path / "history.csv"
    events = history(path)
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish([order("c0", "live-0"), order("new", "live-1")])
        await service.settled()
        before = await changes(service)
        told = {(c["customer_id"], c["dimension"]): c["current"] for c in before.values()}
        assert {customer for customer, _ in told} == {"c0", "new"}
        loaded = await clv(service, "backfill", str(path), "--ahead", "300", "--json")
        assert loaded["events"] == events
        await service.settled()
        everything = await changes(service)
        net = [change for name, change in everything.items() if name not in before]
        # Who has no history is told step by step what time has brought until the tick at the end.
        once = [(c["customer_id"], c["dimension"]) for c in net if c["customer_id"] != "new"]
        assert set(Counter(once).values()) == {1}
        for change in net:
            chain = change["customer_id"], change["dimension"]
            assert change["previous"] == told.get(chain)
            told[chain] = change["current"]
        assert {customer for customer, _ in told} == {"new", *(f"c{n}" for n in range(CUSTOMERS))}
        history_updates = [
            json.loads(record.value)["data"]
            for record in await service.records(service.settings.topics.updates)
        ]
        assert any(update.get("backfill") for update in history_updates)
        final = await service.updates()
        assert not any(update.get("backfill") for update in final.values())
        for (customer, dimension), segment in told.items():
            assert final[customer]["segments"][dimension] == segment
        assert final["c1"]["totals"]["orders"] == ORDERS
        assert final["c0"]["totals"]["orders"] == ORDERS + 1

        again = await clv(service, "backfill", str(path), "--json")
        assert again["events"] == events
        await service.settled()
        assert await changes(service) == everything
        assert (await service.updates())["c1"]["totals"] == final["c1"]["totals"]
