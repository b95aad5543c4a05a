"""`clv fitter` and `clv models` beside a worker: refits, refusals, rollbacks, kills."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.btyd import MbgNbd
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.registry.reading import read_registry, write_document
from streams.registry.registry import Registry
from tests.servers import forks
from tests.test_models.parameters import PARAMETERS
from tests.test_models.populations import histories

from .cluster import PATIENCE, ROOT, Cluster, cluster

SHOP = MbgNbd(r=0.8, alpha=30.0, a=0.5, b=2.5)
DAYS = 240
REFUSED = 3


def orders(customers: int, seed: int, prefix: str) -> Iterator[OutgoingEvent]:
    """Orders until yesterday."""
    first = datetime.now(UTC).replace(microsecond=0) - timedelta(days=DAYS)
    for number, days in enumerate(histories(SHOP, customers, DAYS, seed=seed)):
        customer = f"{prefix}{number}"
        for day in days:
            at, order = first + timedelta(days=day), f"{customer}-{day}"
            yield cloud_event(
                "orders", "order.placed", source="/shop", event_id=order, time=at,
                data={
                    "order_id": order, "customer_id": customer, "placed_at": at,
                    "currency": "USD", "total": f"{20 + number % 40}.00",
                },
                customer_id=customer,
            )  # fmt: skip


async def started(service: Cluster, *arguments: str) -> Any:
    return await forks.start(
        sys.executable, "-m", "streams.cli", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | service.environment(),
    )  # fmt: skip


async def said(service: Cluster, *arguments: str, status: int = 0) -> Any:
    """Run a command with --json to its end; return its document, or what it says on stderr."""
    process = await started(service, *arguments, "--json")
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert b"Traceback" not in err, err.decode()
    assert process.returncode == status, err.decode()
    return json.loads(out) if out else err.decode()


async def registry(service: Cluster) -> Registry:
    return await read_registry(service.broker, service.settings.topics.models, "USD")


async def versions_of_all(service: Cluster) -> set[str]:
    await service.settled()
    return {each["model"]["version"] for each in (await service.updates()).values()}


async def test_refits_are_published_refused_and_rolled_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, partitions=2) as service:
        nothing = await said(service, "fitter", "--once", status=REFUSED)
        assert (nothing["outcome"], nothing["version"]) == ("impossible", None)
        assert "no customers to fit on" in nothing["reasons"][0]
        assert (await said(service, "models", "list"))["models"] == []

        await service.start_worker()
        await service.publish(orders(250, 1, "a"))
        await service.settled()
        first = await said(service, "fitter", "--once")
        assert first["outcome"] == "published"
        assert await versions_of_all(service) == {first["version"]}
        calibration = (await said(service, "models", "show", first["version"]))["calibration"]
        assert 0 < sum(group["customers"] for group in calibration["groups"]) <= 250
        again = await said(service, "fitter", "--once")
        assert (again["outcome"], again["version"]) == ("unchanged", first["version"])
        assert len((await registry(service)).published) == 1

        await service.publish(orders(100, 2, "b"))
        await service.settled()
        second = await said(service, "fitter", "--once")
        assert second["outcome"] == "published", second
        assert await versions_of_all(service) == {second["version"]}
        assert "is in force" in await said(
            service, "models", "rollback", second["version"], status=1
        )
        assert "is published already, and earlier" in await said(
            service, "models", "publish", first["version"], status=1
        )
        back = await said(service, "models", "rollback", first["version"])
        assert back["version"].startswith(f"{first['version']}-restored-")
        assert await versions_of_all(service) == {back["version"]}
        listed = (await said(service, "models", "list"))["models"]
        statuses = {each["version"]: each["status"] for each in listed}
        assert statuses == {
            first["version"]: "earlier", second["version"]: "earlier", back["version"]: "in force",
        }  # fmt: skip

        wild = PARAMETERS.model_copy(
            update={"version": "wild", "holds_from": datetime.now(UTC), "order_value": None}
        )
        wild = wild.model_copy(update={"purchases": type(wild.purchases)(9.0, 0.5, 0.1, 9.0)})
        await service.publish_parameters(wild)
        bad = await said(service, "fitter", "--once", status=REFUSED)
        assert bad["outcome"] == "refused"
        assert "more than a factor of 4" in bad["reasons"][0]
        shown = await said(service, "models", "show", bad["version"])
        assert (shown["status"], shown["reasons"]) == ("refused", bad["reasons"])
        assert shown["calibration"]["groups"]
        await said(service, "models", "publish", bad["version"])
        assert await versions_of_all(service) == {bad["version"]}
        assert (await said(service, "models", "show", bad["version"]))["status"] == "in force"
        assert "has no parameters 'unknown'" in await said(
            service, "models", "show", "unknown", status=1
        )
        assert "parameters refused" not in service.workers[0].log.read_text()


async def test_a_running_fitter_obeys_requests_once_and_stops_on_request(tmp_path: Path) -> None:
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish(orders(120, 3, "a"))
        await service.settled()
        fitter = await started(service, "fitter")
        try:
            async with asyncio.timeout(PATIENCE):
                while not (current := await registry(service)).published:
                    assert fitter.returncode is None, (await fitter.communicate())[1].decode()
                asked = await said(service, "models", "refit")
                while current.asked is not None or current.request is None:
                    assert fitter.returncode is None, (await fitter.communicate())[1].decode()
                    current = await registry(service)
        finally:
            if fitter.returncode is None:
                fitter.send_signal(signal.SIGTERM)
            _, err = await asyncio.wait_for(fitter.communicate(), PATIENCE)
        assert fitter.returncode == 0, err.decode()
        assert current.state is not None
        assert (current.state.request, current.state.outcome) == (asked["id"], "unchanged")
        assert await versions_of_all(service) == set(current.published)
        log = err.decode()
        assert log.count("somebody asked for it") == 1
        assert "there are no parameters yet" in log


@pytest.mark.heavy
async def test_killed_at_any_time_it_comes_to_the_same_parameters(tmp_path: Path) -> None:
    dice = random.Random(7)
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish(orders(120, 4, "a"))
        await service.settled()
        began = datetime.now(UTC).date()
        for _ in range(20):
            process = await started(service, "fitter", "--once")
            await asyncio.sleep(dice.uniform(0.1, 4.0))
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await asyncio.wait_for(process.communicate(), PATIENCE)
        last = await said(service, "fitter", "--once")
        days = (datetime.now(UTC).date() - began).days
        published = (await registry(service)).published
        assert 1 <= len(published) <= 1 + days
        assert last["version"] in published
        assert await versions_of_all(service) == {last["version"]}


async def test_a_publication_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    """Killed between the publication and the tick: nobody else would have customers scored."""
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish(orders(60, 5, "a"))
        await service.settled()
        done = await said(service, "fitter", "--once")
        here = await registry(service)
        assert here.state is not None
        models = service.settings.topics.models
        cut = here.published[done["version"]].model_copy(
            update={"version": "cut-short", "holds_from": datetime.now(UTC)}
        )
        state = here.state.model_copy(update={"outcome": "publishing", "version": "cut-short"})
        await write_document(service.broker, models, b"refit/state", state)
        assert (await registry(service)).done is None
        await service.publish_parameters(cut)
        assert await versions_of_all(service) == {done["version"]}
        again = await said(service, "fitter", "--once")
        assert (again["outcome"], again["version"]) == ("unchanged", "cut-short")
        assert await versions_of_all(service) == {"cut-short"}


async def test_the_same_fit_by_hand_once_more_changes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        await service.publish(orders(60, 6, "a"))
        await service.settled()
        fits = [await said(service, "fit", "--topics", "--publish") for _ in range(2)]
        versions = {each["version"] for each in fits}
        assert set((await registry(service)).published) == versions
        assert await versions_of_all(service) == {fits[1]["version"]}


async def test_the_customers_of_the_topics_are_evaluated(tmp_path: Path) -> None:
    async with cluster(tmp_path, partitions=2) as service:
        await service.start_worker()
        told = list(orders(150, 7, "a"))
        await service.publish(told)
        await service.settled()
        split = (datetime.now(UTC) - timedelta(days=60)).date()
        found = await said(service, "evaluate", "--topics", "--split", split.isoformat())
        (report,) = found["splits"]
        known = {event.key for event in told if event.time.date() <= split}
        days = {(event.key, event.time.date()) for event in told}
        assert report["until"] == (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
        assert report["customers"] == len(known)
        assert report["actual"]["purchases"] == sum(
            who in known and day > split for who, day in days
        )
        assert found["prequential"]["forecasts"]
