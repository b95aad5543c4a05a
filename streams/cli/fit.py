"""`clv fit`: estimate the parameters on a file or a data set."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.btyd import MODELS
from models.choosing import AUTO
from models.context import Context
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from models.fitting import DEFAULT_MODEL, TimeUnit
from streams.batch import end_of_day, fit_states
from streams.cli import options
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, out, print_json, say
from streams.cli.population import open_population
from streams.cli.running import run
from streams.cli.score import fold_with_progress
from streams.cli.sources import SIMULATED_NOTE, AsOf, parse_moment
from streams.cli.tick import send_tick
from streams.fitter.due import in_force
from streams.parameters import ParametersPublished, publish_parameters
from streams.registry.reading import read_registry
from streams.settings import Settings
from streams.topics import prepare_topics

PurchaseModelName = StrEnum("PurchaseModelName", {name: name for name in (*MODELS, AUTO)})  # type: ignore[misc]
DEFAULT = PurchaseModelName(DEFAULT_MODEL)
PURCHASE_MODEL = "Model of the purchases; auto: the one that predicts best what it has not seen."


def fit(
    source: options.PopulationName = None,
    *,
    topics: options.FromTopics = False,
    model: Annotated[
        PurchaseModelName,
        typer.Option(help=PURCHASE_MODEL),
    ] = DEFAULT,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Last day that counts, the end of observation. Default: the last event's day.",
        ),
    ] = None,
    time_unit: Annotated[TimeUnit, typer.Option(help="Time unit.")] = "day",
    prior: Annotated[
        bool,
        typer.Option(
            "--prior/--no-prior",
            help="Start from weak assumptions, which a few hundred customers outweigh; or by "
            "maximum likelihood alone.",
        ),
    ] = True,
    in_sample: options.InSample = False,
    columns: options.Columns = None,
    currency: options.CurrencyName = None,
    timezone: options.Timezone = None,
    line_items: options.LineItems = False,
    shop: options.ShopName = None,
    status: options.Statuses = None,
    ignore_status: options.IgnoreStatus = False,
    decimal: options.DecimalSign = "point",
    keep_going: options.KeepGoing = False,
    simulated: options.Simulated = False,
    seed: options.Seed = 1,
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
    as_json: options.AsJson = False,
) -> None:
    """Estimate the parameters: orders, order value, contacts, refunds, tiers."""
    settings = load_settings()
    if publish:
        need_broker(settings)
    opened = open_population(
        source,
        settings,
        topics=topics,
        columns=columns,
        currency=currency,
        timezone=timezone,
        line_items=line_items,
        shop=shop,
        statuses=status,
        ignore_status=ignore_status,
        decimal=decimal,
        keep_going=keep_going,
        simulated=simulated,
        seed=seed,
        in_sample=in_sample,
    )
    economics = opened.economics
    if until and topics:
        raise CommandError("--until is for files; the topics hold what is known now")
    if until:
        end = AsOf.end_of(end_of_day(parse_moment(until, economics, "--until"), economics))
    else:
        end = opened.last_day()
    result = fold_with_progress(opened, Context(economics), end)
    fitted = fit_states(
        result.states,
        end.moment,
        time_unit,
        economics,
        model.value,
        leave_out_later=topics,
        prior=prior,
    )
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
        given = parse_moment(as_of, economics, "--as-of") if as_of else opened.as_of
        moment = given or datetime.now(UTC)
        parameters = parameters.model_copy(update={"holds_from": moment})
        parameters = run(_publish(settings, parameters, moment))
        since = parameters.holds_from or moment
        say(
            f"published to {settings.topics.models} as {parameters.version}; it "
            f"holds from {since.isoformat()}"
        )
    if as_json:
        print_json(json.loads(document))
    else:
        out().print(parameters_table(parameters))


async def _publish(settings: Settings, parameters: Parameters, as_of: datetime) -> Parameters:
    """Publish parameters, and have all customers scored; return them as they are in force."""
    broker = need_broker(settings)
    await prepare_topics(settings, broker)
    try:
        await publish_parameters(broker, settings.topics.models, parameters)
    except ParametersPublished as found:
        # The same fit once more, perhaps with another time from which it would hold.
        if found.held.model_copy(update={"holds_from": parameters.holds_from}) != parameters:
            raise
        topic, currency = settings.topics.models, parameters.currency
        registry = await read_registry(broker, topic, currency)
        if in_force(registry, as_of) != found.held:
            raise
        parameters = found.held
    await send_tick(settings, Tick(as_of=as_of, parameters=parameters.version))
    return parameters


def standard_errors(parameters: Parameters) -> dict[str, float]:
    """The standard error of each parameter of purchases, from their covariance; {} without one."""
    if parameters.covariance is None:
        return {}
    values = parameters.purchases.as_dict().items()
    return {
        name: value * math.sqrt(row[number])  # The covariance is that of logarithms.
        for number, ((name, value), row) in enumerate(
            zip(values, parameters.covariance, strict=True)
        )
    }


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
    spend, contacts = parameters.order_value, parameters.contacts
    errors = standard_errors(parameters)
    for name, value in parameters.purchases.document().items():
        known = f" ± {errors[name]:.2g}" if name in errors else ""
        rows.append((f"{parameters.purchases.title} {name}", f"{value:.7f}{known}"))
    for title, fitted in (
        ("Gamma-Gamma", {} if spend is None else asdict(spend)),
        ("contacts", {} if contacts is None else asdict(contacts)),
    ):
        rows += [(f"{title} {name}", f"{value:.7f}") for name, value in fitted.items()]
    rows.append(("refund rate", f"{parameters.refund_rate:.4%}"))
    if parameters.tiers is not None:
        rows.append(("gold from", f"{parameters.tiers.gold:,.2f} {parameters.currency}"))
        rows.append(("silver from", f"{parameters.tiers.silver:,.2f} {parameters.currency}"))
    for row in rows:
        table.add_row(*row)
    return table
