"""Contenders in turn over the same workloads: A B C, A B C, …"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contenders import CONTENDERS, Contender
from benchmarks.contenders.settings import BrokerKind, Settings
from benchmarks.measure import Run, run
from benchmarks.publishing import Workload
from benchmarks.servers import Servers, running_servers
from benchmarks.workload import WORKLOADS
from streams.datasets.dataset import DatasetMissingError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to run: workloads, contenders in order, brokers, events of each contender, rounds."""

    workloads: list[str]
    contenders: list[str]
    brokers: list[BrokerKind]
    events: dict[str, int]
    rounds: int = 1
    partitions: int = 4
    limit_seconds: float = 300
    from_start: bool = False
    flames: Path | None = None

    def count(self, workload: str, contender: str) -> int:
        """Return how many events a contender gets."""
        return min(self.events[contender], WORKLOADS[workload].most or self.events[contender])


async def bench(plan: Plan, say: Say) -> list[Run]:
    """Run the plan; what cannot run here is said and left out. Errors: ContenderError."""
    runs: list[Run] = []
    for kind in plan.brokers:
        chosen = []
        for contender in map(CONTENDERS.__getitem__, plan.contenders):
            if reason := contender.missing(kind):
                say(f"left out: {reason}")
            else:
                chosen.append(contender)
        async with running_servers(kind) as servers:
            for workload in plan.workloads:
                try:
                    runs += await _of_workload(plan, servers, workload, chosen, say)
                except DatasetMissingError as error:
                    say(f"left out: {workload}: {error}")
    return runs


async def _of_workload(
    plan: Plan, servers: Servers, name: str, contenders: list[Contender], say: Say
) -> list[Run]:
    loads = {
        count: Workload.of(name, count, plan.partitions)
        for count in {plan.count(name, contender.name) for contender in contenders}
    }
    runs: list[Run] = []
    for number in range(1, plan.rounds + 1):
        for contender in contenders:
            workload = loads[plan.count(name, contender.name)]
            done = await run(
                contender,
                workload,
                settings_of(servers, workload, contender.name, plan.partitions),
                round_number=number,
                limit_seconds=plan.limit_seconds,
                from_start=plan.from_start,
                flame=plan.flames and plan.flames / f"{name}-{contender.name}.svg",
            )
            runs.append(done)
            say(
                f"{servers.kind} {name} round {number} {contender.name}: {done.events:,} events, "
                f"{done.rate:,.0f}/s, {done.cpu_us:,.0f} µs an event, "
                f"wall {done.seconds_wall:.1f} s"
            )
    return runs


def settings_of(servers: Servers, workload: Workload, name: str, partitions: int) -> Settings:
    """Return the settings of a run with topics and a group of its own."""
    return Settings.for_run(
        broker=servers.broker,
        broker_kind=servers.kind,
        redis=servers.redis,
        app_id=f"bench-{workload.name}-{name}-{uuid.uuid4().hex[:6]}",
        has_support=workload.totals.contacts > 0,
        currency=workload.currency,
        partitions=partitions,
    )
