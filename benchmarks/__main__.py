"""`python -m benchmarks`: every contender on one broker, in interleaved rounds."""

import asyncio
import signal
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console

from benchmarks import recovery, replay, report, scaling, serving, workload
from benchmarks.measure import CONTENDERS, ContenderError, Run, Workload, run
from benchmarks.settings import Settings
from streams.embedded import embedded_servers

EVENTS = {"ours": 200_000, "faust": 20_000, "quix": 200_000}

console = Console(width=140)


def _names(text: str, known: tuple[str, ...], option: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := set(names) - set(known)):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown)) if names else 'nothing'} named; "
            f"known are {', '.join(known)}",
            param_hint=option,
        )
    return names


def _events(text: str) -> dict[str, int]:
    """Read `1000` (for all) or `ours=200000,faust=20000`."""
    try:
        if "=" not in text and text:
            return dict.fromkeys(EVENTS, int(text))
        given = {
            name.strip(): int(count)
            for name, count in (part.split("=") for part in text.split(",") if part)
        }
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor name=number,…", param_hint="--events"
        ) from None
    _names(",".join(given) or "ours", tuple(EVENTS), "--events")
    return {**EVENTS, **given}


@dataclass(frozen=True)
class Plan:
    """What to run: shapes, contenders in order, events of each, rounds."""

    shapes: list[workload.Shape]
    contenders: list[str]
    events: dict[str, int]
    rounds: int
    partitions: int
    limit_seconds: float


async def _publish(broker: str, shape: workload.Shape, count: int, partitions: int) -> Workload:
    topic = f"bench.{shape}.{count}.orders"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        # Quix Streams copies the retention to its changelog and needs it to be set.
        new = NewTopic(topic, partitions, 1, topic_configs={"retention.ms": "-1"})
        await admin.create_topics([new])
    finally:
        await admin.close()
    counts = await workload.publish(broker, topic, partitions, shape, count)
    customers = len({key for key, _, _ in workload.events(shape, count)})
    return Workload(shape, topic, counts, customers)


async def _bench(plan: Plan) -> list[Run]:
    # Termination must end the servers and the contender too.
    this = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    runs: list[Run] = []
    async with embedded_servers() as servers:
        for shape in plan.shapes:
            runs += await _bench_shape(plan, shape, servers.broker.address, servers.redis.url)
    return runs


async def _bench_shape(plan: Plan, shape: workload.Shape, broker: str, redis: str) -> list[Run]:
    async with asyncio.timeout(plan.limit_seconds):
        loads = {
            count: await _publish(broker, shape, count, plan.partitions)
            for count in {plan.events[name] for name in plan.contenders}
        }
    runs: list[Run] = []
    for round_number in range(1, plan.rounds + 1):
        for name in plan.contenders:
            load = loads[plan.events[name]]
            settings = Settings.for_run(
                broker=broker,
                redis=redis,
                app_id=f"bench-{shape}-{round_number}-{name}-{uuid.uuid4().hex[:6]}",
                orders=load.topic,
                partitions=plan.partitions,
            )
            result = await run(
                CONTENDERS[name],
                load,
                settings,
                round_number=round_number,
                limit_seconds=plan.limit_seconds,
            )
            runs.append(result)
            console.print(
                f"{shape} round {round_number} {name}: {load.events:,} events, "
                f"{result.events_per_second:,.0f}/s, wall {result.seconds_wall:.1f} s"
            )
    return runs


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds per shape.")] = 3,
    shapes: Annotated[str, typer.Option(help="Shapes, comma separated.")] = "distinct,hot",
    contenders: Annotated[
        str, typer.Option(help="Contenders in the order they run.")
    ] = "ours,faust,quix",
    events: Annotated[str, typer.Option(help="Events: a number for all, or name=number,…")] = "",
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every topic.")] = 4,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one run.")] = 300,
    json: Annotated[Path | None, typer.Option(help="Write every run to this file.")] = None,
) -> None:
    """Measure contenders on the same broker, one after the other, in interleaved rounds."""
    chosen_shapes = _names(shapes, workload.SHAPES, "--shapes")
    chosen = _names(contenders, tuple(CONTENDERS), "--contenders")
    plan = Plan(chosen_shapes, chosen, _events(events), rounds, partitions, limit)
    try:
        runs = asyncio.run(_bench(plan))
    except ContenderError as error:
        console.print(f"benchmark failed: {error}", markup=False, highlight=False)
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        raise typer.Exit(128 + signal.SIGTERM) from None
    console.print(" ".join(f"{key}={value}" for key, value in report.machine().items()))
    report.show(runs, console)
    if json:
        report.write_json(runs, json)


if __name__ == "__main__":
    others = {
        "recovery": recovery.main,
        "replay": replay.main,
        "scaling": scaling.main,
        "serving": serving.main,
    }
    if other := others.get("".join(sys.argv[1:2])):
        del sys.argv[1]
        typer.run(other)
    else:
        typer.run(main)
