"""`clv fit`: estimate the parameters on a file or a data set."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.context import Context
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from models.fitting import TimeUnit
from streams.batch import end_of_day, fit_states
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import out, print_json, say
from streams.cli.options import (
    AsJson,
    Columns,
    CurrencyName,
    KeepGoing,
    Seed,
    Simulated,
    SourceName,
    TimeUnitName,
    Timezone,
)
from streams.cli.running import run
from streams.cli.score import fold_with_progress
from streams.cli.sources import SIMULATED_NOTE, open_source, parse_moment
from streams.cli.tick import send_tick
from streams.parameters import publish_parameters
from streams.settings import Settings
from streams.topics import prepare_topics


class FittedModel(StrEnum):
    """Models that can be fitted."""

    bg_nbd = "bg-nbd"


def fit(
    source: SourceName,
    *,
    model: Annotated[FittedModel, typer.Option(help="Model of the orders.")] = FittedModel.bg_nbd,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Last day that counts, the end of observation. Default: the last event's day.",
        ),
    ] = None,
    time_unit: Annotated[TimeUnitName, typer.Option(help="Time unit.")] = TimeUnitName.day,
    in_sample: Annotated[
        bool, typer.Option("--in-sample", help="cdnow: only the papers' 2,357 customers.")
    ] = False,
    columns: Columns = None,
    currency: CurrencyName = None,
    timezone: Timezone = None,
    keep_going: KeepGoing = False,
    simulated: Simulated = False,
    seed: Seed = 1,
    output: Annotated[
        Path | None, typer.Option(help="Also write the parameters to a file.")
    ] = None,
    publish: Annotated[
        bool,
        typer.Option(
            "--publish", help="Publish them for all workers, and have all customers valued again."
        ),
    ] = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="With --publish: value customers as of this time. Default: a data set's own, "
            "or now.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the parameters: orders, order value, contacts, refunds, tiers."""
    settings = load_settings()
    if publish:
        need_broker(settings)
    opened = open_source(
        source,
        settings.economics,
        columns=columns,
        currency=currency,
        timezone=timezone,
        keep_going=keep_going,
        simulated=simulated,
        seed=seed,
        in_sample=in_sample,
    )
    economics = opened.economics
    day = parse_moment(until, economics, "--until") if until else opened.last_day()
    last = end_of_day(day, economics)
    result = fold_with_progress(opened, Context(economics), last)
    unit: TimeUnit = "week" if time_unit is TimeUnitName.week else "day"
    fitted = fit_states(result.states, last, unit, economics)
    for note in fitted.notes:
        say(f"note: {note}")
    if opened.simulated:
        say(SIMULATED_NOTE)
    parameters = fitted.parameters
    document = parameters.model_dump_json(indent=2)
    if output is not None:
        output.write_text(document + "\n", encoding="utf-8")
        say(f"written to {output}")
    if publish:
        moment = parse_moment(as_of, economics, "--as-of") if as_of else opened.as_of
        run(_publish(settings, parameters, moment or datetime.now(UTC)))
        say(f"published to {settings.topics.models} as {parameters.version} ({model.value})")
    if as_json:
        print_json(json.loads(document))
    else:
        out().print(parameters_table(parameters))


async def _publish(settings: Settings, parameters: Parameters, as_of: datetime) -> None:
    broker = need_broker(settings)
    await prepare_topics(settings, broker)
    await publish_parameters(broker, settings.topics.models, parameters)
    await send_tick(settings, Tick(as_of=as_of, parameters=parameters.version))


def parameters_table(parameters: Parameters) -> Table:
    """The parameters for people."""
    table = Table(title=f"{parameters.model} {parameters.version}", show_header=False)
    unit = parameters.time_unit
    rows: list[tuple[str, str]] = [
        ("customers", f"{parameters.customers:,}"),
        ("fitted until", parameters.fitted_until.date().isoformat()),
        ("time unit", unit),
        ("log-likelihood of the orders", f"{parameters.log_likelihood:.3f}"),
    ]
    for name, value in parameters.purchases:
        rows.append((f"BG/NBD {name}", f"{value:.7f}"))
    for name, value in parameters.order_value or ():
        rows.append((f"Gamma-Gamma {name}", f"{value:.7f}"))
    for name, value in parameters.contacts or ():
        rows.append((f"contacts {name}", f"{value:.7f}"))
    rows.append(("refund rate", f"{parameters.refund_rate:.4%}"))
    if parameters.tiers is not None:
        rows.append(("gold from", f"{parameters.tiers.gold:,.2f} {parameters.currency}"))
        rows.append(("silver from", f"{parameters.tiers.silver:,.2f} {parameters.currency}"))
    for row in rows:
        table.add_row(*row)
    return table
