"""`clv fitter`: keep the parameters current."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Annotated

import typer

from models.fitting import TimeUnit
from streams.cli import options
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import print_json, say
from streams.cli.fit import DEFAULT, PURCHASE_MODEL, PurchaseModelName
from streams.cli.logs import configure_logging
from streams.cli.models import registry_topics
from streams.cli.running import InterruptedBySignalError, run
from streams.fitter.fitter import Fitter, Kind, fitting
from streams.fitter.health import answer
from streams.fitter.metrics import fitter_samples
from streams.health.server import answering
from streams.registry.records import State
from streams.settings import Settings

REFUSED = 3
"""Exit status of `clv fitter --once` if nothing was published because of what the fit gave."""

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_DURATION = re.compile(r"([1-9][0-9]{0,4})([dhm])")


def fitter(
    *,
    every: Annotated[
        str,
        typer.Option(metavar="TIME", help="Time between two refits: 7d, 12h or 30m."),
    ] = "7d",
    once: Annotated[
        bool, typer.Option("--once", help="Refit now, publish or not, and end.")
    ] = False,
    model: Annotated[PurchaseModelName, typer.Option(help=PURCHASE_MODEL)] = DEFAULT,
    time_unit: Annotated[TimeUnit, typer.Option(help="Time unit.")] = "day",
    as_json: options.AsJson = False,
    verbose: options.Verbose = False,
) -> None:
    """Refit the parameters on the service's customers, when it is due, until SIGINT or SIGTERM."""
    pause = parse_duration(every)
    if as_json and not once:
        raise typer.BadParameter("--json is for --once")
    settings = load_settings()
    need_broker(settings)
    if not once:
        configure_logging(verbose=verbose)
    kind = Kind(model.value, time_unit)
    try:
        state = run(_work(settings, kind, None if once else pause))
    except InterruptedBySignalError:
        if once:
            raise
        say("the fitter stopped")
        return
    if state is not None:
        _tell(state, as_json=as_json)


def parse_duration(text: str) -> timedelta:
    """Read a time such as 7d; typer.BadParameter."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise typer.BadParameter(
            f"{text!r}: write a whole number of days, hours or minutes, such as 7d, 12h or 30m"
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


async def _work(settings: Settings, kind: Kind, every: timedelta | None) -> State | None:
    """Refit once if `every` is None, else for ever."""
    broker = need_broker(settings)
    partitions = await registry_topics(settings, broker)
    working: Fitter | None = None
    async with AsyncExitStack() as stack:
        if settings.health_port is not None and every is not None:
            server = answering(
                lambda: answer(working),
                settings.health_host,
                settings.health_port,
                lambda: fitter_samples(working),
            )
            await stack.enter_async_context(server)
        working = await stack.enter_async_context(fitting(settings, broker, partitions, kind=kind))
        if every is not None:
            await working.run(every)
            return None
        await working.catch_up()
        return await working.refit()


def _tell(state: State, *, as_json: bool) -> None:
    if as_json:
        print_json(state.model_dump(mode="json"))
    elif state.outcome == "published":
        say(f"published as {state.version}; it holds from {state.at.isoformat()}")
    elif state.outcome == "unchanged":
        say(f"nothing is published: the parameters are those in force, {state.version}")
    if state.outcome == "refused":
        said = [f"  {each}" for each in state.reasons]
        if not as_json:
            say(f"{state.version} is refused, and kept: `clv models show {state.version}`", *said)
        raise typer.Exit(REFUSED)
    if state.outcome == "impossible":
        if not as_json:
            say("nothing could be fitted:", *(f"  {each}" for each in state.reasons))
        raise typer.Exit(REFUSED)
