"""`clv score`: value every customer of a file, with no broker."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import msgspec
import typer

from models.aggregate.record import customers
from models.btyd import MODELS, FitError
from models.calendar import milliseconds
from models.choosing import AUTO
from models.context import Context
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.fitting import DEFAULT_MODEL
from models.outputs import CurrentValue
from models.totals import TotalValue
from streams.batch import BatchResult, fit_states, fold_events, score_states, total_of
from streams.cli import options
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, on_terminal, progress_bars, results_to, say, warn
from streams.cli.parameters_file import read_parameters
from streams.cli.population import open_population
from streams.cli.sources import SIMULATED_NOTE, AsOf, Source, parse_as_of
from streams.text import json_text, visible

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""With what a cell begins that a spreadsheet may take for a formula, the wide forms too."""

ModelName = StrEnum("ModelName", {name: name for name in (*MODELS, AUTO)})  # type: ignore[misc]
"""Models that values can be computed with."""


def score(
    source: options.PopulationName = None,
    *,
    topics: options.FromTopics = False,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Value as of this time, or the end of this day; only what is before counts. "
            "Default: a data set's own, or the end of the last event's day.",
        ),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(help="Fitted parameters, as `clv fit --output` writes them."),
    ] = None,
    model: Annotated[
        ModelName | None,
        typer.Option(help=f"Model to fit. Default: {DEFAULT_MODEL}."),
    ] = None,
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
    format_: Annotated[
        Literal["csv", "json"], typer.Option("--format", help="Format of the result.")
    ] = "csv",
    output: Annotated[
        Path | None, typer.Option(help="Write to this file instead of stdout.")
    ] = None,
    spreadsheet_safe: Annotated[
        bool,
        typer.Option(
            "--spreadsheet-safe",
            help="CSV: put an apostrophe before texts that a spreadsheet takes for a formula.",
        ),
    ] = False,
) -> None:
    """Value every customer of a file or a data set, with no broker.

    Without --parameters they are fitted on the file itself, up to the as-of time.
    """
    if parameters is not None and model is not None:
        raise typer.BadParameter("--model is what is fitted; leave it or --parameters out")
    if spreadsheet_safe and format_ != "csv":
        raise typer.BadParameter("--spreadsheet-safe is for --format csv; JSON has no formulas")
    opened = open_population(
        source,
        load_settings(),
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
    )
    given = None if parameters is None else read_parameters(parameters, opened.economics.currency)
    end = parse_as_of(as_of, opened.economics, "--as-of") if as_of is not None else opened.end()
    moment = end.moment
    if topics and opened.now is not None and moment < opened.now:
        raise CommandError(
            f"--as-of is {as_of!r}, which is over: the topics hold what is known now; score a file "
            "or a recording"
        )
    result = fold_with_progress(opened, Context(opened.economics), end)
    fitted = given
    if given is None:
        fitted = _fit(result, moment, opened, model)
    context = Context(opened.economics, fitted and fitted.held_always())
    used = context.model_at(milliseconds(moment))
    updates = score_states(result.states, context, moment)
    say(
        f"{len(updates)} customers valued as of {moment.isoformat()} in "
        f"{opened.economics.currency}, with {used.model} ({used.version})"
    )
    everybody = (record for _, record in customers(result.states))
    say(total_words(total_of(everybody, context, moment), opened.economics))
    if opened.simulated:
        say(SIMULATED_NOTE)
    with results_to(output) as file:
        if format_ == "csv":
            # What goes to a file or another program is exact.
            shown = visible if output is None and on_terminal() else _same
            safe = no_formula if spreadsheet_safe else _same
            write_csv(file, updates, lambda text: shown(safe(text)))
        else:
            write_json(file, updates)


def total_words(total: TotalValue, economics: Economics) -> str:
    """What is expected of all together, with the 10th and the 90th percentile."""
    purchases = total.purchases
    return (
        f"together they are expected to buy {purchases.purchases:,.0f} times within "
        f"{economics.horizon_days:,} days (10 to 90 %: {purchases.low:,.0f} to "
        f"{purchases.high:,.0f}), which is worth {total.expected:,.2f} {economics.currency} "
        f"({total.low:,.2f} to {total.high:,.2f})"
    )


def _fit(
    result: BatchResult, as_of: datetime, source: Source, model: str | None
) -> Parameters | None:
    try:
        fitted = fit_states(
            result.states,
            as_of,
            "day",
            source.economics,
            model or DEFAULT_MODEL,
            leave_out_later=source.states is not None,
        )
    except FitError as error:
        if model is not None:
            raise
        say(f"weak prior parameters are used: {error}")
        return None
    say(f"parameters fitted on {fitted.parameters.customers} customers of {source.name} itself")
    for note in fitted.notes:
        say(f"note: {note}")
    return fitted.parameters


def fold_with_progress(source: Source, context: Context, end: AsOf) -> BatchResult:
    """Fold a source's events before the end, and report on it as `report_folding` does."""
    if source.states is not None:
        return BatchResult(states=dict(source.states))
    with progress_bars() as bars:
        task = bars.add_task(f"Reading {source.name}", total=source.expected, note="events")
        result = fold_events(
            source.events(),
            context,
            end.before,
            lambda number: bars.advance(task, number),
            source.now,
        )
        bars.update(task, total=result.events, completed=result.events)
    report_folding(result, source, end)
    return result


def report_folding(result: BatchResult, source: Source, end: AsOf) -> None:
    """Say what of a source's events before the end was refused or left out.

    Raises CommandError when no event was accepted.
    """
    refused = [
        f"  {number} {reason}, such as: {result.refusals[reason]}"
        for reason, number in result.dead_letters.most_common()
    ]
    noticed = [
        f"  {number} {reason}, such as: {result.refusals[reason]}"
        for reason, number in result.notices.most_common()
    ]
    if not result.states:
        if result.left_out:
            raise CommandError(
                f"{source.name}: none of {result.left_out} events is before "
                f"{end.before.isoformat()}"
            )
        what = f"none of {result.events} events was accepted:" if refused else "no events"
        raise CommandError(f"{source.name}: {what}", *refused)
    if result.left_out:
        say(f"{result.left_out} events are not before {end.before.isoformat()}, and are left out")
    if words := source.report.uncounted_words():
        say(words)
    if result.duplicates:
        say(f"{result.duplicates} events say what was said before, and count once")
    if refused:
        warn(
            f"{result.dead_letters.total()} of {result.events} events were refused:",
            *refused,
            *(
                f"  first: {where}: {message}"
                for where, message in source.report.refused.first.values()
            ),
        )
    if noticed:
        warn(f"{result.notices.total()} of {result.events} events should be looked at:", *noticed)


def row_of(update: CurrentValue) -> dict[str, Any]:
    """A customer's row of the result; recency and T in days, money in the reporting currency."""
    data = msgspec.json.decode(update.document)["data"]
    statistics, realised, expected = data["statistics"], data["realised"], data["expected"]
    return {
        "customer_id": data["customer_id"],
        **{name: statistics[name] for name in ("frequency", "recency", "T", "monetary_value")},
        "p_alive": data["p_alive"],
        "p_purchase": data["p_purchase"],
        "expected_purchases": expected["purchases"],
        "purchases_low": expected["purchases_low"],
        "purchases_high": expected["purchases_high"],
        "purchase_value": expected["purchase_value"],
        **{name: realised[name] for name in ("margin", "cost_to_serve", "acquisition_cost")},
        "realised": realised["total"],
        "expected": expected["total"],
        "expected_low": expected["total_low"],
        "expected_high": expected["total_high"],
        "clv": data["clv"],
        **data["segments"],
        "currency": data["currency"],
        "model": data["model"]["name"],
        "as_of": data["as_of"],
    }


def _sorted_rows(updates: Sequence[CurrentValue]) -> Iterable[dict[str, Any]]:
    return (row_of(update) for update in sorted(updates, key=lambda update: update.customer_id))


def _same(text: str) -> str:
    return text


def no_formula(text: str) -> str:
    """A text that a spreadsheet takes for one: an apostrophe before what begins as a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text


def write_csv(
    file: TextIO, updates: Sequence[CurrentValue], text: Callable[[str], str] = _same
) -> None:
    """Write RFC 4180 CSV; floats so that they read back as they are, nothing for None.

    text: how texts are written; numbers stay numbers.
    """
    writer: csv.DictWriter[str] | None = None
    for row in _sorted_rows(updates):
        if writer is None:
            writer = csv.DictWriter(file, row.keys(), lineterminator="\r\n")
            writer.writeheader()
        writer.writerow(
            {name: text(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
        )


def write_json(file: TextIO, updates: Sequence[CurrentValue]) -> None:
    """Write one array of objects, one on each line."""
    separator = "[\n"
    for row in _sorted_rows(updates):
        file.write(separator + json_text(row))
        separator = ",\n"
    file.write("\n]\n")
