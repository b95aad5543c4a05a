"""`python -m tests.faults.soak`: a long steady load, and a break at random every minute."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.breaks import Break
from tests.faults.limits import Hang, within
from tests.faults.observer import RedisObserver
from tests.faults.report import RunResult
from tests.faults.runner import (
    BREAK_SECONDS,
    FAILURES,
    PATIENCE,
    START_PATIENCE,
    chosen,
    judge_run,
)
from tests.faults.workload import MOST_EVENTS, Workload
from tests.faults.world import Setup, World, world

WORKERS = 2
SAMPLE_SECONDS = 5.0
FEWEST_SAMPLES = 12
"""With fewer nobody can say whether memory stays flat."""
UNKNOWN = -1, -1
MIB = 1024 * 1024
GROWTH = 1.10
"""The last third of the samples may have so much of the middle third's memory."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service, while a worker runs. seconds: since the load began.

    memory: MiB of the largest worker. lag, behind_in_redis: -1 while nobody can say.
    """

    seconds: float
    memory: float
    lag: int
    behind_in_redis: int


@dataclass(frozen=True, slots=True)
class Broken:
    """A break that was made, when, and how long until all was well again."""

    seconds: float
    kind: str
    recovered_in: float


@dataclass
class Soak:
    """What a soak came to."""

    seed: int
    events: int = 0
    samples: list[Sample] = field(default_factory=list)
    breaks: list[Broken] = field(default_factory=list)
    result: RunResult = field(default_factory=lambda: RunResult("soak", 0, 0))

    def thirds(self) -> list[float]:
        """Median memory of each third of the samples, in MiB."""
        third = len(self.samples) // 3
        parts = [self.samples[n * third : (n + 1) * third] for n in range(3)]
        return [statistics.median(s.memory for s in part) if part else 0.0 for part in parts]

    @property
    def memory_is_flat(self) -> bool:
        """Whether the last third holds no more than the middle one, with some room."""
        _, middle, last = self.thirds()
        return len(self.samples) >= FEWEST_SAMPLES and last <= middle * GROWTH

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, doubled, or went back, and memory stayed flat."""
        return self.result.ok and self.memory_is_flat

    def table(self, rows: int = 20) -> str:
        """Samples in even steps, the breaks, and the verdict."""
        step = max(len(self.samples) // rows, 1)
        lines = [f"{'minutes':>8}{'MiB':>8}{'lag':>8}{'behind in Redis':>17}"]
        lines += [
            f"{s.seconds / 60:8.1f}{s.memory:8.0f}{s.lag:8d}{s.behind_in_redis:17d}"
            for s in self.samples[::step]
        ]
        lines += [
            f"{b.seconds / 60:8.1f}  {b.kind:<22} recovered in {b.recovered_in:.1f} s"
            for b in self.breaks
        ]
        thirds = " / ".join(f"{memory:.0f}" for memory in self.thirds())
        lines.append(
            f"memory by thirds: {thirds} MiB, {'flat' if self.memory_is_flat else 'GROWING'}"
        )
        lines.append(self.result.line())
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "seed": self.seed,
            "events": self.events,
            "memory_by_thirds_mib": self.thirds(),
            "memory_is_flat": self.memory_is_flat,
            "samples": [asdict(sample) for sample in self.samples],
            "breaks": [asdict(broken) for broken in self.breaks],
            "result": self.result.as_json(),
        }


async def soak(
    here: World, kinds: Sequence[Break], *, seed: int, seconds: float, rate: float, every: float
) -> Soak:
    """Publish `rate` events a second for so long, and break something every so many seconds."""
    found = Soak(seed)
    events = max(round(seconds * rate), 1)
    # Half as many events each as are remembered: no customer's past grows without end.
    workload = Workload(
        seed,
        max(2 * events // (MOST_EVENTS // 2), 10),
        events,
        "soak",
        partitions=here.settings.partitions,
    )
    found.events = len(workload.items)
    found.result = RunResult("soak", seed, found.events)
    await here.ready(WORKERS, START_PATIENCE)
    here.logs.forget()
    began = time.monotonic()
    async with RedisObserver(here.redis_url, workload.customers) as observer:
        here.observer = observer
        tasks = [
            asyncio.create_task(here.publisher.publish(workload.items, seconds), name="load"),
            asyncio.create_task(_sample(here, found, began), name="samples"),
            asyncio.create_task(_break(here, found, kinds, began, every), name="breaks"),
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
            await here.settle(PATIENCE)
            found.result.seconds = time.monotonic() - ended
        except FAILURES as error:
            found.result.failure = f"{type(error).__name__}: {error}"
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            here.observer = None
    found.result.took = time.monotonic() - began
    found.result.exits = [end.status for end in here.fleet.ended]
    found.result.went_back_in_redis = [
        f"{customer} {before} to {after}" for customer, before, after in observer.decreases
    ]
    if not found.result.failure:
        found.result.verdict = await judge_run(here, workload)
    return found


async def _sample(here: World, found: Soak, began: float) -> None:
    while True:
        memory = max(
            (s.process.memory() for s in here.fleet.slots if s.process is not None), default=0
        )
        seconds = time.monotonic() - began
        try:
            backlog = await within(SAMPLE_SECONDS, "the backlog", here.backlog())
        except Hang:
            backlog = UNKNOWN
        if memory:
            found.samples.append(Sample(seconds, memory / MIB, *backlog))
        await asyncio.sleep(max(seconds + SAMPLE_SECONDS - (time.monotonic() - began), 0))


async def _break(
    here: World, found: Soak, kinds: Sequence[Break], began: float, every: float
) -> None:
    dice = random.Random(found.seed)
    order: list[Break] = []
    while True:
        await asyncio.sleep(every * dice.uniform(0.7, 1.3))
        if not order:
            # Each kind once before any comes again.
            order = dice.sample(kinds, len(kinds))
        kind = order.pop()
        broken = time.monotonic()
        print(f"{(broken - began) / 60:6.1f} min  {kind.name}", flush=True)
        await here.fleet.resize(max(WORKERS, kind.workers))()
        await within(BREAK_SECONDS, f"{kind.name} to end", kind.happen(here, dice))
        await here.heal()
        healed = time.monotonic()
        await here.fleet.resize(WORKERS)()
        await here.catch_up(PATIENCE)
        found.breaks.append(Broken(broken - began, kind.name, time.monotonic() - healed))


async def _run(options: argparse.Namespace) -> Soak:
    setup = Setup(options.broker, durable=options.durable)
    kinds = [
        kind
        for kind in chosen(options.kinds, setup)
        if kind.family not in ("none", "input") and (setup.durable or not kind.durable)
    ]
    with tempfile.TemporaryDirectory(prefix="clv-soak-") as directory:
        async with world(Path(directory), setup) as here:
            return await soak(
                here,
                kinds,
                seed=options.seed,
                seconds=options.minutes * 60,
                rate=options.rate,
                every=options.every,
            )


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
    parser.add_argument("--kinds", help="names separated by commas; default: all")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument("--durable", action="store_true", help="workers keep copies on disk")
    parser.add_argument("--json", type=Path, help="write the results to this file")
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
