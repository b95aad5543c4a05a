"""Rules of segments at a running service: what is announced comes, each change once; one truth."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from models.context import Context
from models.contracts.clock import Tick
from models.economics import Economics
from models.segments import DEFAULT_RULES
from streams.batch import fold_events, score_states
from streams.cli.configuration import settings_of_file
from streams.cli.segments.toml import toml_of
from streams.datasets import DATASETS
from streams.files.outgoing import OutgoingEvent, cloud_event
from tests.servers import forks
from tests.test_models.parameters import PARAMETERS

from .cluster import PATIENCE, ROOT, Cluster, cluster

NEW = """\
[[dimensions]]
use = "lifecycle"

[[dimensions]]
name = "tier"

[[dimensions.rules]]
id = "platinum"
segment = "platinum"
all = [{ feature = "gross", is = "at least", bound = 500 }]

[[dimensions.rules]]
id = "gold"
segment = "gold"
any = [
  { feature = "gross", is = "at least", bound = 100, leave = 80 },
  { feature = "orders", is = "at least", bound = 5 },
]

[[dimensions.rules]]
id = "basic"
segment = "basic"

[[dimensions]]
name = "behaviour"

[[dimensions.rules]]
id = "once"
segment = "one-time"
all = [{ feature = "purchase_days", is = "at most", bound = 1 }]

[[dimensions.rules]]
id = "again"
segment = "regular"
"""


async def run(service: Cluster, *arguments: str, status: int = 0) -> str:
    """Run a command to its end; return what it prints, or what it says if it fails."""
    process = await forks.start(
        sys.executable, "-m", "streams.cli", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | service.environment(),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 2 * PATIENCE)
    assert b"Traceback" not in err, err.decode()
    assert process.returncode == status, err.decode()
    return (out if status == 0 else err).decode()


async def told(service: Cluster) -> list[dict[str, Any]]:
    """The segment changes, each id once, in the order of each customer; with how often it came."""
    found: dict[str, dict[str, Any]] = {}
    for record in await service.records(service.settings.topics.segment_changes):
        document = json.loads(record.value)
        assert found.setdefault(document["id"], document) == document
    return [each["data"] for each in found.values()]


def which(changes: Iterable[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(
        (e["customer_id"], e["dimension"], str(e["previous"]), str(e["current"])) for e in changes
    )


async def announced_comes(tmp_path: Path, events: list[OutgoingEvent], seconds: float) -> None:
    """Two workers, one of which is killed in the middle of the change."""
    async with cluster(tmp_path, partitions=2) as service:
        first, _ = await service.start_worker(), await service.start_worker()
        await service.publish(events)
        await service.settled()
        await service.tick(Tick(as_of=datetime.now(UTC)))
        await service.settled()
        config = tmp_path / "new.toml"
        config.write_text(NEW)
        before = await told(service)
        announced = json.loads(
            await run(service, "segments", "diff", "--config", str(config), "--json")
        )
        assert announced["by_time"] == 0
        assert await told(service) == before
        asked = await run(service, "segments", "apply", "--config", str(config), status=1)
        assert "add --yes" in asked

        applying = asyncio.create_task(
            run(service, "segments", "apply", "--config", str(config), "--yes", "--json")
        )
        async with asyncio.timeout(PATIENCE):
            while not any(each["cause"] == "rules" for each in await told(service)):  # noqa: ASYNC110
                await asyncio.sleep(seconds)
        await first.stop(signal.SIGKILL)
        applied = json.loads(await applying)
        await service.settled()

        changes = [each for each in await told(service) if each["cause"] == "rules"]
        assert {each["rules"] for each in changes} == {applied["version"]}
        assert which(changes) == which(announced["changes"]) == which(applied["changes"])
        assert len(changes) > announced["customers"] / 3
        counted = Counter((e["dimension"], e["previous"], e["current"]) for e in changes)
        for flow in announced["flows"]:
            of = flow["dimension"], flow["previous"], flow["current"]
            assert counted.pop(of) == flow["customers"]
        assert not counted

        # From nothing, without a broker and without any history of segments.
        rules = settings_of_file(config).rules
        as_of = datetime.fromisoformat(applied["as_of"])
        context = Context(Economics(), None, rules)
        states = fold_events(events, context, as_of).states
        expected = {
            each.customer_id: dict(each.segments) for each in score_states(states, context, as_of)
        }
        updates = await service.updates()
        assert {name: each["segments"] for name, each in updates.items()} == expected

        history = json.loads(await run(service, "segments", "history", "--json"))
        assert [each["status"] for each in history] == ["earlier", "in force"]
        printed = tmp_path / "printed.toml"
        printed.write_text(await run(service, "segments", "show"))
        assert settings_of_file(printed).rules == rules
        again = json.loads(
            await run(service, "segments", "apply", "--config", str(printed), "--yes", "--json")
        )
        assert (again["published"], again["changes"]) == (False, [])
        await snapshot_is_complete(service, tmp_path / "snapshot.jsonl", updates)
        fitted = tmp_path / "parameters.json"
        fitted.write_text(PARAMETERS.model_dump_json())
        await announced_of_parameters_comes(service, fitted)


async def announced_of_parameters_comes(service: Cluster, path: Path) -> None:
    """The same holds of parameters that are not published yet."""
    diff = json.loads(await run(service, "segments", "diff", "--parameters", str(path), "--json"))
    now = datetime.now(UTC)
    await service.publish_parameters(PARAMETERS.model_copy(update={"holds_from": now}))
    await service.tick(Tick(as_of=now, parameters=PARAMETERS.version))
    await service.settled()
    changes = [each for each in await told(service) if each["cause"] == "model"]
    assert changes
    assert which(changes) == which(diff["changes"])
    assert {each["model"]["version"] for each in changes} == {PARAMETERS.version}


def read_text(path: Path) -> str:
    return path.read_text()


async def snapshot_is_complete(
    service: Cluster, path: Path, updates: dict[str, dict[str, Any]]
) -> None:
    """The snapshot and the changes after its offsets are what the updates say."""
    await run(service, "segments", "snapshot", "--output", str(path))
    head, *lines = map(json.loads, read_text(path).splitlines())
    assert {each["customer_id"]: each["segments"] for each in lines} == {
        name: each["segments"] for name, each in updates.items()
    }
    assert all(each["since"].keys() == each["segments"].keys() for each in lines)
    ends = {str(tp.partition): len(records) for tp, records in (
        await service.read(head["continue"]["topic"])
    ).items()}  # fmt: skip
    assert head["continue"]["offsets"] == ends


async def test_what_is_announced_comes_once_though_a_worker_is_killed(tmp_path: Path) -> None:
    events = list(DATASETS["cdnow"].events())
    some = {event.key for event in events[:: len(events) // 900]}
    await announced_comes(tmp_path, [event for event in events if event.key in some], 0.02)


@pytest.mark.slow
async def test_what_is_announced_comes_once_for_all_customers_of_cdnow(tmp_path: Path) -> None:
    await announced_comes(tmp_path, list(DATASETS["cdnow"].events()), 0.5)


def loyalty(bound: int) -> str:
    return NEW.split("[[dimensions]]", 1)[0] + (
        '[[dimensions]]\nname = "loyalty"\n\n[[dimensions.rules]]\nid = "many"\nsegment = "many"\n'
        f'all = [{{ feature = "orders", is = "at least", bound = {bound} }}]\n\n'
        '[[dimensions.rules]]\nid = "few"\nsegment = "few"\n'
    )


def order(customer: str, number: int, revision: int = 0) -> OutgoingEvent:
    at = datetime.now(UTC)
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"{customer}-{number}-{revision}",
        time=at,
        data={
            "order_id": f"{customer}-{number}", "customer_id": customer, "placed_at": at,
            "currency": "USD", "total": f"{10 + revision}.00", "revision": revision,
        },
        customer_id=customer,
    )  # fmt: skip


async def test_in_a_rolling_restart_with_other_rules_nobody_goes_back_and_forth(
    tmp_path: Path,
) -> None:
    """Old and new configurations side by side, under load; then the new rules are applied.

    All have three orders, which is many under the old rules and few under the new ones. The load
    are changed orders, so that every customer is decided about again and again.
    """
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(loyalty(2))
    new.write_text(loyalty(4))
    customers = [f"c{number}" for number in range(300)]
    async with cluster(tmp_path, partitions=4) as service:
        rounds = 0

        async def load() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await service.publish([order(name, 2, rounds) for name in customers])
                await asyncio.sleep(0.5)

        workers = [await service.start_worker(CLV_CONFIG=str(old)) for _ in range(2)]
        await service.publish(order(name, number) for number in range(3) for name in customers)
        await service.settled()
        loading = asyncio.create_task(load())
        for worker in workers:
            await service.start_worker(CLV_CONFIG=str(new))
            await asyncio.sleep(4.0)
            await worker.stop()
        apply = ("segments", "apply", "--config", str(new), "--yes", "--json")
        applied = json.loads(await run(service, *apply))
        await asyncio.sleep(2.0)
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading
        await service.settled()
        assert rounds >= 10

        ways: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for change in await told(service):
            ways[change["customer_id"]].append(change)
        assert ways.keys() == set(customers)
        first, last = settings_of_file(old).rules.version, applied["version"]
        for changes in ways.values():
            found = [(each["current"], each["rules"]) for each in changes]
            assert found == [("few", first), ("many", first), ("few", last)]
        expected = [(each, "loyalty", "many", "few") for each in sorted(customers)]
        assert which(applied["changes"]) == expected
        said = "the configured rules of segments are not those in force"
        assert said in read_text(service.workers[-1].log)
        updates = await service.updates()
        assert {each["segments"]["loyalty"] for each in updates.values()} == {"few"}


async def test_of_two_workers_that_begin_a_service_with_other_rules_one_decides(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, partitions=2) as service:
        for bound in (1, 9):
            path = tmp_path / f"{bound}.toml"
            path.write_text(loyalty(bound))
            await service.start_worker(CLV_CONFIG=str(path))
        await service.publish(order(f"c{number}", 0) for number in range(50))
        await service.settled()
        changes = await told(service)
        assert len(changes) == 50
        assert len({(each["current"], each["rules"]) for each in changes}) == 1
        [held] = json.loads(await run(service, "segments", "history", "--json"))
        assert held["version"] == changes[0]["rules"]
        later = (datetime.now(UTC) + timedelta(days=30)).isoformat()
        shown = json.loads(await run(service, "segments", "--as-of", later, "--json"))
        for each in (each for found in shown.values() for each in found.values()):
            assert each["purchases_low"] <= each["expected_purchases"] <= each["purchases_high"]
            assert each["expected_low"] <= each["expected"] <= each["expected_high"]
        assert shown.keys() == {"loyalty"}
        [(segment, total)] = shown["loyalty"].items()
        assert (segment, total["customers"]) == (changes[0]["current"], 50)
        assert "which is over" in await run(service, "segments", "--as-of", "2020-01-01", status=1)
        assert "has no [[dimensions]]" in await run(service, "segments", "diff", status=1)

        # In text, for people: the rules of the worker that was not the first.
        other = {"few": tmp_path / "1.toml", "many": tmp_path / "9.toml"}[segment]
        shown = await run(service, "segments", "diff", "--config", str(other), "--customers")
        flow = next(line for line in shown.splitlines() if "loyalty" in line).split()
        assert {"few", "many", "50"} <= {*flow}
        assert shown.count(f"loyalty, from {segment}: ") == 50
        await run(service, "segments", "apply", "--config", str(other), "--yes")
        await service.settled()
        assert len([each for each in await told(service) if each["cause"] == "rules"]) == 50
        history = await run(service, "segments", "history")
        assert "in force" in history
        assert "earlier" in history


async def test_a_running_worker_goes_on_when_its_configuration_breaks(tmp_path: Path) -> None:
    path = tmp_path / "clv.toml"
    path.write_text(loyalty(2))
    async with cluster(tmp_path, partitions=2) as service:
        worker = await service.start_worker(CLV_CONFIG=str(path))
        await service.publish([order("a", 0)])
        await service.settled()
        path.write_text(loyalty(2).replace('"orders"', '"order"'))
        broken = await service.start_worker(CLV_CONFIG=str(path))
        assert await asyncio.wait_for(broken.process.wait(), PATIENCE) == 1
        assert f"{path}, line 7: dimension 'loyalty', rule 'many'" in broken.log.read_text()
        service.workers.remove(broken)
        refused = await run(service, "segments", "apply", "--config", str(path), "--yes", status=1)
        assert f"{path}, line 7" in refused
        await service.publish([order("a", 1)])
        await service.settled()
        assert [each["current"] for each in await told(service)] == ["few", "many"]
        worker.check()


def test_the_default_rules_read_back_from_their_text(tmp_path: Path) -> None:
    path = tmp_path / "default.toml"
    path.write_text(toml_of(DEFAULT_RULES))
    assert settings_of_file(path).dimensions == DEFAULT_RULES.dimensions
