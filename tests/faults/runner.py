"""One run after the other: publish, break, heal, wait, judge."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
import time
from binascii import crc32
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.topics import changelog_topic
from tests.faults.breaks import BREAKS, Break
from tests.faults.judge import judge, judge_plain
from tests.faults.limits import Hang, within
from tests.faults.observer import RedisObserver, read_redis
from tests.faults.passing_time import PassingTime
from tests.faults.reckoner import reckon
from tests.faults.report import RunResult
from tests.faults.silence_runs import all_told, announce, pass_time
from tests.faults.silences import check_silences
from tests.faults.starting import world
from tests.faults.verdict import Verdict
from tests.faults.waiting import catch_up, ready, settle
from tests.faults.workload import Workload
from tests.faults.world import PARTITIONS, SHORT_SESSION, Setup, World

EVENTS = 1_600
"""Of ordinary customers; the others have half as many more."""

CUSTOMERS = 100
LONG_HISTORIES = 3
ERASED_MIDWAY = 5
EARLY_SECONDS = 3.0
"""It breaks in the first half of them."""

PATIENCE = 90.0
"""Seconds after the end of a break in which all must be well again."""

START_PATIENCE = 60.0
MIB = 1024 * 1024
LOOK_SECONDS = 0.25
BREAK_SECONDS = 90.0
"""The longest that a break may last."""

TOLD_SECONDS = 30.0
"""Of what is due when all has happened."""

PASSING_SECONDS = 240.0
"""In which all stages of a run must be over in which time passes."""

AnyWorkload = Workload | PassingTime

FAILURES = (Hang, AssertionError, KafkaError, RedisError, OSError)
"""What ends a run without a verdict; anything else is a mistake of the suite."""


class Runner:
    """Runs kinds in one world, and in a new one where a run left it broken.

    seed: of the first run of each kind; the next ones follow it. keep: where the logs of a failed
    world are left.
    """

    def __init__(self, setup: Setup, seed: int, *, keep: Path | None = None) -> None:
        self.setup = setup
        self.seed = seed
        self.keep = keep
        self._number = 0
        self._done: Counter[str] = Counter()
        self._world: World | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Runner:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._stack.aclose()

    async def run(self, kinds: Iterable[Break], runs: int) -> AsyncIterator[RunResult]:
        """Run each kind so often, with a seed of its own each time."""
        for kind in kinds:
            for number in range(runs):
                yield await self.one(kind, self.seed + number)

    async def one(
        self,
        kind: Break,
        seed: int,
        before_judging: Callable[[], Awaitable[None]] | None = None,
    ) -> RunResult:
        """Run a kind once. before_judging: called when the service is done."""
        began = time.monotonic()
        self._number += 1
        result = RunResult(kind.name, seed, EVENTS, again=repeat_command(kind, seed, self.setup))
        ended = 0
        try:
            here = await self.world_for(kind)
            ended = len(here.fleet.ended)
            workload = await self._run(here, kind, result)
            if before_judging is not None:
                await before_judging()
            result.verdict = await _judge_mended(here, workload, kind.mends)
        except FAILURES as error:
            result.failure = f"{type(error).__name__}: {error}"
        result.took = time.monotonic() - began
        if self._world is not None:
            result.note_ends(self._world.fleet.ended[ended:])
        bad_redis = result.verdict is not None and result.verdict.redis_faults
        # What is broken for good would be found again in the next run.
        if result.failure or bad_redis or kind.leaves_another_world:
            await self._leave()
        return result

    async def world_for(self, kind: Break) -> World:
        """The world in which the next run of a kind takes place."""
        setup = replace(
            self.setup,
            durable=self.setup.durable or kind.durable,
            environment=kind.environment,
        )
        if self._world is not None and self._world.setup != setup:
            await self._leave()
        if self._world is None:
            directory = Path(tempfile.mkdtemp(prefix="clv-faults-"))
            self._stack.callback(shutil.rmtree, directory, ignore_errors=True)
            self._world = await self._stack.enter_async_context(world(directory, setup))
            self._stack.callback(self._keep_logs, self._world)
        return self._world

    async def _leave(self) -> None:
        """End the world; the next run has a new one."""
        self._world = None
        await self._stack.aclose()

    def _run_id(self, kind: Break, seed: int) -> str:
        """What the customers' ids begin with: the same for the same kind and seed.

        They decide the partitions. The same run once more in one world has others.
        """
        name = f"{kind.name} {seed}"
        self._done[name] += 1
        return f"{crc32(f'{name} {self._done[name]}'.encode()):08x}"

    def _keep_logs(self, former: World) -> None:
        if self.keep is not None:
            copy_logs(former.directory, self.keep, f"{self._number:04d}-")

    def _workload(self, here: World, kind: Break, seed: int, dice: random.Random) -> AnyWorkload:
        run_id = self._run_id(kind, seed)
        if kind.time_passes:
            passing = PassingTime(seed, CUSTOMERS, run_id, renewed=kind.renewed)
            # Now, as the proxies would stand still meanwhile.
            assert passing.expected
            return passing
        workload = Workload(
            seed,
            CUSTOMERS,
            EVENTS,
            run_id,
            partitions=here.settings.partitions,
            plain=self.setup.transport == "stock",
            identity=kind.identities,
            too_large=kind.too_large,
            long_histories=LONG_HISTORIES,
            erased_midway=ERASED_MIDWAY,
        )
        if kind.more is not None:
            workload.add(kind.more(workload, dice))
        return workload

    async def _run(self, here: World, kind: Break, result: RunResult) -> AnyWorkload:
        dice = random.Random(f"{kind.name} {result.seed}")
        workload = self._workload(here, kind, result.seed, dice)
        result.events = len(workload.items)
        result.most_memory = kind.most_memory
        await ready(here, kind.workers, START_PATIENCE)
        here.logs.forget()
        here.sealed.clear()
        here.run_id = workload.run_id
        if kind.backlog:
            await here.fleet.resize(0)()
            publishing_all = here.publisher.publish(workload.items, 0.0)
            published = await within(PATIENCE, "the backlog to be published", publishing_all)
            result.repeated = published.repeated
            here.fleet.resize(kind.workers)
        order = "version" if self.setup.transport == "stock" else "position"
        watched = [*workload.customers, *workload.long]
        async with RedisObserver(here.redis_url, watched, order=order) as observer:
            here.observer = observer
            left = [] if kind.backlog else workload.items
            patience = PATIENCE
            if isinstance(workload, PassingTime):
                await announce(here, workload)
                patience = PASSING_SECONDS
                publish = pass_time(here, workload, result.seed, PATIENCE)
            else:
                publish = here.publisher.publish(left, kind.load)
            publishing = asyncio.create_task(publish, name="publishing")
            watching = asyncio.create_task(_watch_memory(here, result), name="memory")
            try:
                await asyncio.sleep(dice.uniform(0.1, 0.6) * EARLY_SECONDS)
                await within(BREAK_SECONDS, f"{kind.name} to end", kind.happen(here, dice))
                await here.heal()
                healed = time.monotonic()
                await catch_up(here, PATIENCE)
                result.seconds = time.monotonic() - healed
                published = await within(patience, "everything to be published", publishing)
                result.repeated += published.repeated
                if isinstance(workload, PassingTime):
                    await all_told(here, workload.expected, TOLD_SECONDS)
                await settle(here, PATIENCE)
            finally:
                publishing.cancel()
                watching.cancel()
                await asyncio.gather(publishing, watching, return_exceptions=True)
                here.observer = None
        if kind.watched:
            result.went_back_in_redis = [
                f"{d.customer} {d.before}>{d.after}" for d in observer.decreases
            ]
        return workload


async def _judge_mended(here: World, workload: AnyWorkload, seconds: float) -> Verdict:
    """The verdict; the last of several, where it takes Redis some seconds to be right again."""
    deadline = time.monotonic() + seconds
    while True:
        verdict = await judge_run(here, workload)
        if verdict.ok or time.monotonic() >= deadline:
            return verdict
        await asyncio.sleep(1.0)


async def _watch_memory(here: World, result: RunResult) -> None:
    """Note the most that a worker ever held."""
    while True:
        result.peak = max(result.peak, here.fleet.peak() / MIB)
        await asyncio.sleep(LOOK_SECONDS)


def repeat_command(kind: Break, seed: int, setup: Setup) -> str:
    """What runs a kind with this seed once more."""
    options = [f"--kinds {kind.name} --seed {seed} --runs 1"]
    options += ["--broker embedded"] if setup.broker == "embedded" else []
    options += ["--transport stock"] if setup.transport == "stock" else []
    options += ["--durable"] if setup.durable else []
    options += ["--identities"] if kind.identities else []
    options += [f"--session {setup.session:g}"] if setup.session != SHORT_SESSION else []
    return f'make faults ARGS="{" ".join(options)}"'


def copy_logs(directory: Path, to: Path, prefix: str = "") -> None:
    """Copy what workers, nodes and servers of a world said to another directory."""
    to.mkdir(parents=True, exist_ok=True)
    for log in directory.rglob("*.log"):
        if "data" in log.parts:
            # Not what a node said: its partitions.
            continue
        shutil.copy(log, to / (prefix + "-".join(log.relative_to(directory).parts)))


async def judge_run(
    here: World,
    workload: AnyWorkload,
    *,
    ticked_until: datetime | None = None,
    new_parameters: bool = False,
) -> Verdict:
    """Compare all that is stored and was published since the logs were forgotten.

    ticked_until, new_parameters: as in `judge`.
    """
    topics, records = here.settings.topics, here.logs.records
    expected = reckon(workload.events, here.terms, workload.now, workload.run_id)
    redis = await read_redis(here.redis_url, here.settings.redis_prefix)
    changelog, updates = records[changelog_topic(here.settings)], records[topics.updates]
    if here.setup.transport == "stock":
        return judge_plain(expected, changelog, updates, redis)
    changes, letters = records[topics.segment_changes], records[topics.dead_letters]
    if isinstance(workload, PassingTime):
        ticked_until = workload.end
    verdict = judge(
        expected, changelog, updates, redis, changes, letters, sealed=here.sealed,
        ticked_until=ticked_until, new_parameters=new_parameters,
        partitions=None if here.settings.partitions == PARTITIONS else here.settings.partitions,
    )  # fmt: skip
    if isinstance(workload, PassingTime):
        check_silences(workload.expected, changes, expected.prefix, verdict)
    return verdict


def chosen(names: str | None, setup: Setup) -> list[Break]:
    """The kinds that are named, separated by commas, or all that this world can have.

    A name may be that of a family, such as "redis", or "cheap": those of them that this world can
    have.

    Raises
    ------
    ValueError
        for a name that is none, or a kind that needs what this world has not.
    """
    if names is None:
        return [kind for kind in BREAKS.values() if why_not(kind, setup) is None]
    result: list[Break] = []
    for name in names.split(","):
        group = [kind for kind in BREAKS.values() if name == kind.family]
        if name == "cheap":
            group = [kind for kind in BREAKS.values() if kind.cheap]
        if group and name not in BREAKS:
            result += [kind for kind in group if why_not(kind, setup) is None]
            continue
        kind = BREAKS.get(name)
        if kind is None:
            raise ValueError(f"there is no kind {name!r}; there are {', '.join(BREAKS)}")
        if (reason := why_not(kind, setup)) is not None:
            raise ValueError(f"{name} cannot be run here: {reason}")
        result.append(kind)
    return result


def why_not(kind: Break, setup: Setup) -> str | None:
    """Why a kind cannot be run in such a world; none if it can."""
    if kind.nodes and setup.broker != "kafka":
        return "it needs the nodes of Apache Kafka"
    if kind.root and os.geteuid() != 0:
        return "it needs root, to mount a small disk"
    if setup.transport == "stock" and kind.family not in ("none", "worker", "broker"):
        return "the stock worker knows only orders, and no caches or copies"
    return None
