"""`python -m benchmarks`: every contender on one broker, in interleaved rounds."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated, cast, get_args

import typer
from rich.console import Console

from benchmarks import beside, latency, pauses, recovery, replay, report, scaling, serving, silence
from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.settings import BrokerKind
from benchmarks.measure import SAMPLER, ContenderError, Run
from benchmarks.rounds import Plan, bench
from benchmarks.workload import WORKLOADS

USUAL = "ours,faust,quix,kstreams,kstreams-memory,decode,produce"

console = Console(width=160)


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
    usual = {name: contender.events for name, contender in CONTENDERS.items()}
    try:
        if "=" not in text and text:
            return dict.fromkeys(usual, int(text))
        given = {
            name.strip(): int(count)
            for name, count in (part.split("=") for part in text.split(",") if part)
        }
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a number nor name=number,…", param_hint="--events"
        ) from None
    _names(",".join(given) or "ours", tuple(usual), "--events")
    return {**usual, **given}


async def _bench(plan: Plan) -> list[Run]:
    # Termination must end the servers and the contender too.
    this = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await bench(plan, lambda said: console.print(said, markup=False, highlight=False))


def main(
    *,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each workload.")] = 3,
    workloads: Annotated[
        str, typer.Option(help=f"Comma separated, of {', '.join(WORKLOADS)}.")
    ] = "new,known,hot",
    contenders: Annotated[
        str, typer.Option(help=f"In the order they run, of {', '.join(CONTENDERS)}; or all.")
    ] = USUAL,
    brokers: Annotated[str, typer.Option(help="embedded, kafka, or both.")] = "embedded",
    events: Annotated[str, typer.Option(help="Events: a number for all, or name=number,…")] = "",
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every topic.")] = 4,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one run.")] = 300,
    from_start: Annotated[
        bool, typer.Option(help="Measure from the start of the process: for few events.")
    ] = False,
    flames: Annotated[
        Path | None,
        typer.Option(help="Write flame graphs to this directory; needs py-spy.", file_okay=False),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write every run to this file.")] = None,
) -> None:
    """Measure contenders on the same broker, one after the other, in interleaved rounds."""
    if flames:
        if not SAMPLER.exists():
            raise typer.BadParameter("needs py-spy: pip install py-spy", param_hint="--flames")
        flames.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        _names(workloads, tuple(WORKLOADS), "--workloads"),
        list(CONTENDERS)
        if contenders == "all"
        else _names(contenders, tuple(CONTENDERS), "--contenders"),
        cast("list[BrokerKind]", _names(brokers, get_args(BrokerKind), "--brokers")),
        _events(events),
        rounds,
        partitions,
        limit,
        from_start,
        flames,
    )
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
        "beside": beside.main,
        "latency": latency.main,
        "pauses": pauses.main,
        "recovery": recovery.main,
        "replay": replay.main,
        "scaling": scaling.main,
        "serving": serving.main,
        "silence": silence.main,
    }
    if other := others.get("".join(sys.argv[1:2])):
        del sys.argv[1]
        typer.run(other)
    else:
        typer.run(main)
