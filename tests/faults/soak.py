"""`python -m tests.faults.soak`: a long steady load, and a break at random every minute."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from streams.topics import changelog_topic
from tests.faults.breaks import Break
from tests.faults.limits import Hang, within
from tests.faults.maker import MOST_EVENTS
from tests.faults.observer import RedisObserver
from tests.faults.progress import backlog
from tests.faults.report import RunResult
from tests.faults.runner import (
    BREAK_SECONDS,
    ERASED_MIDWAY,
    FAILURES,
    LONG_HISTORIES,
    PATIENCE,
    START_PATIENCE,
    chosen,
    copy_logs,
    judge_run,
)
from tests.faults.soak_report import MIB, WARM_SECONDS, Broken, Reading, Sample, Soak
from tests.faults.starting import world
from tests.faults.waiting import catch_up, ready, settle
from tests.faults.workload import Workload
from tests.faults.world import LONG_SESSION, Setup, World

WORKERS = 2
SAMPLE_SECONDS = 5.0
CALM_SECONDS = 120.0
"""Before the first break: long enough to see whether a worker grows that is left alone."""

UNKNOWN = -1, -1


async def soak(
    here: World,
    kinds: Sequence[Break],
    *,
    seed: int,
    seconds: float,
    rate: float,
    every: float,
    calm: float,
) -> Soak:
    """Publish `rate` events a second for so long, and break something every so many seconds.

    calm: seconds before the first break.
    """
    found = Soak(seed)
    events = max(round(seconds * rate), 1)
    # Half as many events each as are remembered: no customer's past grows without end.
    workload = Workload(
        seed,
        max(2 * events // (MOST_EVENTS // 2), 10),
        events,
        "soak",
        partitions=here.settings.partitions,
        long_histories=LONG_HISTORIES,
        erased_midway=ERASED_MIDWAY,
    )
    found.events = len(workload.items)
    found.result = RunResult("soak", seed, found.events)
    await ready(here, WORKERS, START_PATIENCE)
    here.logs.forget()
    _spare_the_proxies()
    began = found.began = time.monotonic()
    async with RedisObserver(here.redis_url, [*workload.customers, *workload.long]) as observer:
        here.observer = observer
        tasks = [
            asyncio.create_task(here.publisher.publish(workload.items, seconds), name="load"),
            asyncio.create_task(_sample(here, found), name="samples"),
            asyncio.create_task(_break(here, found, kinds, every, calm), name="breaks"),
        ]
        load, samples, breaking = tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (samples, breaking):
                if task.done():
                    task.result()
            published = await within(PATIENCE, "everything to be published", load)
            found.result.repeated = published.repeated
            breaking.cancel()
            await asyncio.wait([breaking])
            await here.heal()
            ended = time.monotonic()
            await settle(here, PATIENCE)
            found.result.seconds = time.monotonic() - ended
        except FAILURES as error:
            found.result.failure = f"{type(error).__name__}: {error}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            here.observer = None
    found.result.took = time.monotonic() - began
    found.ends = list(here.fleet.ended)
    found.result.note_ends(found.ends)
    found.result.went_back_in_redis = [
        f"{customer} {before} to {after}" for customer, before, after in observer.decreases
    ]
    if not found.result.failure:
        found.result.verdict = await judge_run(here, workload)
    return found


def _spare_the_proxies() -> None:
    """Keep the garbage collector from all that is published and read.

    The lines to Kafka go through this process: while it looks through a growing heap, second after
    second on a busy machine, no heartbeat gets through, and all workers are given up.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000_000)


class _State:
    """MiB of all customers' stored records, from what the changelog says."""

    def __init__(self, changelog: Sequence[Any]) -> None:
        self._changelog = changelog
        self._read = 0
        self._sizes: dict[bytes, int] = {}
        self._bytes = 0

    def size(self) -> float:
        for record in islice(self._changelog, self._read, None):
            self._read += 1
            size = 0 if record.value is None else len(record.key) + len(record.value)
            self._bytes += size - self._sizes.get(record.key, 0)
            self._sizes[record.key] = size
        return self._bytes / MIB


async def _sample(here: World, found: Soak) -> None:
    state = _State(here.logs.records[changelog_topic(here.settings)])
    while True:
        seconds = time.monotonic() - found.began
        try:
            left = await within(SAMPLE_SECONDS, "the backlog", backlog(here))
        except Hang:
            left = UNKNOWN
        held = state.size()
        # Of the workers alone: this process holds all that was published and read.
        processes = [slot.process for slot in here.fleet.slots if slot.process is not None]
        memory = {process: process.memory() / MIB for process in processes if process.memory()}
        for process, size in memory.items():
            if process.age >= WARM_SECONDS:
                life = found.lives.setdefault(process.pid, [])
                life.append(Reading(seconds, size - held))
        if memory:
            found.samples.append(Sample(seconds, max(memory.values()), held, *left))
        await asyncio.sleep(max(seconds + SAMPLE_SECONDS - (time.monotonic() - found.began), 0))


async def _break(
    here: World, found: Soak, kinds: Sequence[Break], every: float, calm: float
) -> None:
    dice = random.Random(found.seed)
    order: list[Break] = []
    await asyncio.sleep(calm)
    while True:
        await asyncio.sleep(every * dice.uniform(0.7, 1.3))
        if not order:
            # Each kind once before any comes again.
            order = dice.sample(kinds, len(kinds))
        kind = order.pop()
        seconds = time.monotonic() - found.began
        print(f"{seconds / 60:6.1f} min  {kind.name}", flush=True)
        broken = Broken(seconds, kind.name, kind.family)
        found.breaks.append(broken)
        await here.fleet.resize(max(WORKERS, kind.workers))()
        await within(BREAK_SECONDS, f"{kind.name} to end", kind.happen(here, dice))
        await here.heal()
        healed = time.monotonic()
        await here.fleet.resize(WORKERS)()
        await catch_up(here, PATIENCE)
        broken.recovered_in = time.monotonic() - healed
        broken.lasted = healed - found.began - seconds


async def _run(options: argparse.Namespace) -> Soak:
    setup = Setup(options.broker, durable=options.durable, session=options.session)
    kinds = [
        kind
        for kind in chosen(options.kinds, setup)
        if kind.fits_a_soak and (setup.durable or not kind.durable)
    ]
    directory = Path(tempfile.mkdtemp(prefix="clv-soak-"))
    clean = False
    try:
        async with world(directory, setup) as here:
            found = await soak(
                here,
                kinds,
                seed=options.seed,
                seconds=options.minutes * 60,
                rate=options.rate,
                every=options.every,
                calm=options.calm,
            )
        clean = found.ok
    finally:
        keep = options.keep
        if keep is None and not clean:
            keep = Path(tempfile.mkdtemp(prefix="clv-soak-logs-"))
        if keep is not None:
            copy_logs(directory, keep)
            print(f"logs: {keep}")
        shutil.rmtree(directory, ignore_errors=True)
    return found


def main() -> None:
    """Soak, print, and exit with 1 if anything is not clean."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.soak",
        description="A steady load with a break every minute: nothing may be lost, and memory must "
        "stay flat.",
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=400.0, help="events a second")
    parser.add_argument("--every", type=float, default=60.0, help="seconds between breaks")
    parser.add_argument(
        "--calm", type=float, default=CALM_SECONDS, help="seconds before the first break"
    )
    parser.add_argument(
        "--session", type=float, default=LONG_SESSION, help="seconds of the group's session"
    )
    parser.add_argument("--kinds", help="names separated by commas; default: all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--durable", action="store_true", help="workers keep copies on disk")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument(
        "--keep", type=Path, help="leave all logs in this directory, also of a clean soak"
    )
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000_000)
    print(f"seed {options.seed}", flush=True)
    # It says of every request to a broken node that it failed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    found = asyncio.run(_run(options))
    print(found.table())
    if options.json is not None:
        options.json.write_text(json.dumps(found.as_json(), indent=1) + "\n")
    sys.exit(0 if found.ok else 1)


if __name__ == "__main__":
    main()
