"""`python -m tests.faults.chaos`: everything at once, and a worker killed every few seconds.

Events come in, customers are merged and erased, time passes, new parameters are published, Redis is
emptied, and the workers have been given one directory for their copies by mistake. It ends clean if
all comes to what it must, as in any run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.publisher import Publisher
from tests.faults.breaks.kinds import a_while
from tests.faults.breaks.redis import emptied
from tests.faults.limits import within
from tests.faults.observer import RedisObserver
from tests.faults.report import RunResult
from tests.faults.runner import FAILURES, START_PATIENCE, copy_logs, judge_run
from tests.faults.starting import world
from tests.faults.waiting import ready, settle
from tests.faults.workload import Workload
from tests.faults.world import SHORT_SESSION, Setup, World

WORKERS = 2
LONG_HISTORIES = 6
ERASED_MIDWAY = 20
EVENTS_OF_ONE = 12
"""In the mean: so few that those who are merged have not more together than is remembered."""

PATIENCE = 240.0
KILL_SECONDS = 3.0, 7.0
TICK_SECONDS = 15.0, 30.0
PARAMETERS_SECONDS = 20.0, 40.0
REDIS_SECONDS = 40.0, 80.0


class Chaos:
    """What is done to a world while events come in.

    ticked_until: the latest time that was said to have passed. kills, ticks, fits, emptied: how
    often.
    """

    def __init__(self, here: World, seed: int) -> None:
        self.here = here
        self.ticked_until: datetime | None = None
        self.kills = self.ticks = self.fits = self.emptied = 0
        self._seed = seed
        self._broker = Broker(here.direct)

    async def kill(self) -> None:
        """Kill a worker every few seconds, and sometimes all of them."""
        dice = random.Random(f"{self._seed} kills")
        while True:
            await a_while(dice, *KILL_SECONDS)
            slots = self.here.fleet.slots
            for slot in slots if dice.random() < 0.15 else [dice.choice(slots)]:
                slot.kill()
                self.kills += 1

    async def tick(self) -> None:
        """Say that time has passed, to all partitions."""
        dice = random.Random(f"{self._seed} ticks")
        settings = self.here.settings
        while True:
            await a_while(dice, *TICK_SECONDS)
            self.ticked_until = datetime.now(UTC)
            async with Publisher(self._broker, settings.topics, settings.partitions) as publisher:
                await publisher.tick(Tick(as_of=self.ticked_until))
            self.ticks += 1

    async def fit(self) -> None:
        """Publish other parameters."""
        dice = random.Random(f"{self._seed} parameters")
        while True:
            await a_while(dice, *PARAMETERS_SECONDS)
            self.fits += 1
            parameters = Parameters.model_validate(
                {
                    "version": f"chaos-{self._seed}-{self.fits}",
                    "currency": self.here.terms.currency,
                    "fitted_until": datetime.now(UTC),
                    "customers": 1_000,
                    "log_likelihood": -1.0,
                    "purchases": {
                        name: dice.uniform(0.2, 5.0) for name in ("r", "alpha", "a", "b")
                    },
                    "tiers": {"gold": dice.uniform(500, 2_000), "silver": dice.uniform(0, 500)},
                }
            )
            await publish_parameters(self._broker, self.here.settings.topics.models, parameters)

    async def empty_redis(self) -> None:
        """Kill Redis, and start it with nothing in it."""
        dice = random.Random(f"{self._seed} redis")
        while True:
            await a_while(dice, *REDIS_SECONDS)
            await emptied(self.here, dice)
            self.emptied += 1

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.ticks} ticks, {self.fits} times new parameters, Redis "
            f"emptied {self.emptied} times"
        )


async def chaos(here: World, *, seed: int, seconds: float, rate: float) -> RunResult:
    """Publish `rate` events a second for so long, while everything happens."""
    events = max(round(seconds * rate), 1)
    workload = Workload(
        seed,
        max(events // EVENTS_OF_ONE, 100),
        events,
        "chaos",
        partitions=here.settings.partitions,
        identity=True,
        long_histories=LONG_HISTORIES,
        erased_midway=ERASED_MIDWAY,
    )
    result = RunResult("chaos", seed, len(workload.items))
    doing = Chaos(here, seed)
    await ready(here, WORKERS, START_PATIENCE)
    here.logs.forget()
    began = time.monotonic()
    watched = [*workload.customers, *workload.long]
    try:
        async with RedisObserver(here.redis_url, watched) as observer:
            here.observer = observer
            await _while_events_come(here, doing, workload, result, seconds)
        result.went_back_in_redis = [
            f"{d.customer} {d.before}>{d.after}" for d in observer.decreases
        ]
        result.verdict = await judge_run(
            here, workload, ticked_until=doing.ticked_until, new_parameters=True
        )
    except FAILURES as error:
        result.failure = f"{type(error).__name__}: {error}"
    result.took = time.monotonic() - began
    result.note_ends(here.fleet.ended)
    print(doing, flush=True)
    return result


async def _while_events_come(
    here: World, doing: Chaos, workload: Workload, result: RunResult, seconds: float
) -> None:
    load = asyncio.create_task(here.publisher.publish(workload.items, seconds), name="load")
    troubles = [
        asyncio.create_task(work(), name=work.__name__)
        for work in (doing.kill, doing.tick, doing.fit, doing.empty_redis)
    ]
    try:
        await asyncio.wait([load, *troubles], return_when=asyncio.FIRST_COMPLETED)
        for task in troubles:
            if task.done():
                task.result()
        result.repeated = (await within(PATIENCE, "everything to be published", load)).repeated
        for task in troubles:
            task.cancel()
        await asyncio.gather(*troubles, return_exceptions=True)
        await here.heal()
        healed = time.monotonic()
        await settle(here, PATIENCE)
        result.seconds = time.monotonic() - healed
    finally:
        for task in (load, *troubles):
            task.cancel()
        await asyncio.gather(load, *troubles, return_exceptions=True)
        here.observer = None


async def _run(options: argparse.Namespace) -> RunResult:
    setup = Setup(options.broker, durable=True, session=options.session, shared_state=True)
    directory = Path(tempfile.mkdtemp(prefix="clv-chaos-"))
    result = RunResult("chaos", options.seed, 0)
    try:
        async with world(directory, setup) as here:
            result = await chaos(
                here, seed=options.seed, seconds=options.minutes * 60, rate=options.rate
            )
    finally:
        keep = options.keep
        if keep is None and not result.ok:
            keep = Path(tempfile.mkdtemp(prefix="clv-chaos-logs-"))
        if keep is not None:
            copy_logs(directory, keep)
            print(f"logs: {keep}")
        shutil.rmtree(directory, ignore_errors=True)
    result.again = (
        f'make chaos ARGS="--seed {options.seed} --minutes {options.minutes:g} '
        f'--rate {options.rate:g} --broker {options.broker}"'
    )
    return result


def main() -> None:
    """Run, print, and exit with 1 if anything is not clean."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.chaos",
        description="Kill a worker every few seconds while customers are merged and erased, time "
        "passes, parameters change and Redis is emptied: nothing may be lost or counted twice.",
    )
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=60.0, help="events a second")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--broker", choices=["kafka", "embedded"], default="kafka")
    parser.add_argument(
        "--session", type=float, default=SHORT_SESSION, help="seconds of the group's session"
    )
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--keep", type=Path, help="leave all logs in this directory")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1_000_000_000)
    print(f"seed {options.seed}", flush=True)
    # It says of every request to a broken node that it failed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    result = asyncio.run(_run(options))
    print(result.line())
    if options.json is not None:
        options.json.write_text(json.dumps(result.as_json(), indent=1) + "\n")
    sys.exit(0 if result.ok else 1)


if __name__ == "__main__":
    main()
