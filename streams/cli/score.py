"""`clv score`: value every customer of a file, with no broker."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TextIO

import msgspec
import typer
from pydantic import ValidationError

from models.btyd import FitError
from models.context import Context
from models.contracts.parameters import Parameters
from models.outputs import Update
from models.segments import DEFAULT_DIMENSIONS
from streams.batch import BatchResult, fit_states, fold_events, score_states
from streams.bounded import TooLarge, read_whole
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, on_terminal, progress_bars, results_to, say, warn
from streams.cli.options import (
    Columns,
    CurrencyName,
    KeepGoing,
    Seed,
    Simulated,
    SourceName,
    Timezone,
)
from streams.cli.sources import SIMULATED_NOTE, Source, open_source, parse_moment
from streams.text import json_text, visible

FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""With what a cell begins that a spreadsheet may take for a formula, the wide forms too."""

MOST_PARAMETERS = 1024 * 1024
"""Bytes of a file of fitted parameters, which takes some hundred."""


class ModelName(StrEnum):
    """Models that values can be computed with."""

    bg_nbd = "bg-nbd"
    simple_average = "simple-average"


class Format(StrEnum):
    """Formats of the result."""

    csv = "csv"
    json = "json"


def score(
    source: SourceName,
    *,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Value as of this time, or the end of this day; later events are left out. "
            "Default: a data set's own, or the end of the last event's day.",
        ),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(help="Fitted parameters, as `clv fit --output` writes them."),
    ] = None,
    model: Annotated[
        ModelName | None,
        typer.Option(help="Default: bg-nbd, or simple-average with too few customers to fit."),
    ] = None,
    columns: Columns = None,
    currency: CurrencyName = None,
    timezone: Timezone = None,
    keep_going: KeepGoing = False,
    simulated: Simulated = False,
    seed: Seed = 1,
    format_: Annotated[Format, typer.Option("--format", help="Format of the result.")] = Format.csv,
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
    if parameters is not None and model is ModelName.simple_average:
        raise typer.BadParameter("simple-average has no parameters; leave one of the two out")
    if spreadsheet_safe and format_ is not Format.csv:
        raise typer.BadParameter("--spreadsheet-safe is for --format csv; JSON has no formulas")
    opened = open_source(
        source,
        load_settings().economics,
        columns=columns,
        currency=currency,
        timezone=timezone,
        keep_going=keep_going,
        simulated=simulated,
        seed=seed,
    )
    given = None if parameters is None else read_parameters(parameters, opened.economics.currency)
    moment = _as_of(opened, as_of)
    result = fold_with_progress(opened, Context(opened.economics), moment)
    fitted = given
    if given is None and model is not ModelName.simple_average:
        fitted = _fit(result, moment, opened, required=model is ModelName.bg_nbd)
    context = Context(opened.economics, fitted)
    updates = score_states(result.states, context, moment)
    say(
        f"{len(updates)} customers valued as of {moment.isoformat()} in "
        f"{opened.economics.currency}, with "
        + (f"bg-nbd ({fitted.version})" if fitted else "simple-average")
    )
    if opened.simulated:
        say(SIMULATED_NOTE)
    with results_to(output) as file:
        if format_ is Format.csv:
            # What goes to a file or another program is exact.
            shown = visible if output is None and on_terminal() else _same
            safe = no_formula if spreadsheet_safe else _same
            write_csv(file, updates, lambda text: shown(safe(text)))
        else:
            write_json(file, updates)


def _as_of(source: Source, text: str | None) -> datetime:
    if text is not None:
        return parse_moment(text, source.economics, "--as-of")
    return source.end()


def _fit(
    result: BatchResult, as_of: datetime, source: Source, *, required: bool
) -> Parameters | None:
    try:
        fitted = fit_states(result.states, as_of, "day", source.economics)
    except FitError as error:
        if required:
            raise
        say(f"simple-average is used: {error}")
        return None
    say(f"parameters fitted on {fitted.parameters.customers} customers of {source.name} itself")
    for note in fitted.notes:
        say(f"note: {note}")
    return fitted.parameters


def read_parameters(path: Path, currency: str) -> Parameters:
    """Parameters from a file; CommandError when they are not, or are for another currency."""
    try:
        found = Parameters.model_validate_json(read_whole(path, MOST_PARAMETERS))
    except TooLarge as error:
        raise CommandError(f"{path}: these are no parameters: {error}") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise CommandError(
            f"{path}: these are no parameters: {where}: {problem['msg']}; "
            "write them by `clv fit --output`"
        ) from error
    if found.currency != currency:
        raise CommandError(
            f"{path}: the parameters are in {found.currency}, the values would be in {currency}; "
            f"fit on orders in {currency}, or set CLV_ECONOMICS__CURRENCY"
        )
    return found


def fold_with_progress(source: Source, context: Context, as_of: datetime) -> BatchResult:
    """Fold a source's events, and say what was refused or left out.

    Raises CommandError when no event was accepted.
    """
    with progress_bars() as bars:
        task = bars.add_task(f"Reading {source.name}", total=source.expected, note="events")
        result = fold_events(
            source.events(), context, as_of, lambda number: bars.advance(task, number)
        )
        bars.update(task, total=result.events, completed=result.events)
    refused = [
        f"  {number} {reason}, such as: {result.refusals[reason]}"
        for reason, number in result.dead_letters.most_common()
    ]
    if not result.states:
        if result.left_out:
            raise CommandError(
                f"{source.name}: all {result.left_out} events are later than {as_of.isoformat()}"
            )
        what = f"none of {result.events} events was accepted:" if refused else "no events"
        raise CommandError(f"{source.name}: {what}", *refused)
    if result.left_out:
        say(f"{result.left_out} events later than {as_of.isoformat()} are left out")
    if result.duplicates:
        say(f"{result.duplicates} events say what was said before, and count once")
    if refused:
        warn(f"{result.dead_letters.total()} of {result.events} events were refused:", *refused)
    return result


def row_of(update: Update) -> dict[str, Any]:
    """A customer's row of the result; recency and T in days, money in the reporting currency."""
    data = msgspec.json.decode(update.document)["data"]
    statistics, realised, expected = data["statistics"], data["realised"], data["expected"]
    return {
        "customer_id": data["customer_id"],
        "frequency": statistics["frequency"],
        "recency": statistics["recency"],
        "T": statistics["T"],
        "monetary_value": statistics["monetary_value"],
        "p_alive": data["p_alive"],
        "expected_orders": expected["orders"],
        "expected_order_value": expected["order_value"],
        "margin": realised["margin"],
        "cost_to_serve": realised["cost_to_serve"],
        "acquisition_cost": realised["acquisition_cost"],
        "realised": realised["total"],
        "expected": expected["total"],
        "clv": data["clv"],
        **{each.name: data["segments"][each.name] for each in DEFAULT_DIMENSIONS},
        "currency": data["currency"],
        "model": data["model"]["name"],
        "as_of": data["as_of"],
    }


def _sorted_rows(updates: Sequence[Update]) -> Iterable[dict[str, Any]]:
    return (row_of(update) for update in sorted(updates, key=lambda update: update.customer_id))


def _same(text: str) -> str:
    return text


def no_formula(text: str) -> str:
    """A text that a spreadsheet takes for one: an apostrophe before what begins as a formula."""
    return f"'{text}" if text.startswith(FORMULAS) else text


def write_csv(file: TextIO, updates: Sequence[Update], text: Callable[[str], str] = _same) -> None:
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


def write_json(file: TextIO, updates: Sequence[Update]) -> None:
    """Write one array of objects, one on each line."""
    separator = "[\n"
    for row in _sorted_rows(updates):
        file.write(separator + json_text(row))
        separator = ",\n"
    file.write("\n]\n")
