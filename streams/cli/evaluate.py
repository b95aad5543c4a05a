"""`clv evaluate`: what was expected at a split, held against what happened after it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.calendar import milliseconds
from models.economics import Economics
from streams.batch import end_of_day
from streams.cli import options
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json, progress_bars, say
from streams.cli.fit import DEFAULT, PURCHASE_MODEL, PurchaseModelName
from streams.cli.population import open_population
from streams.cli.score import report_folding
from streams.cli.sources import SIMULATED_NOTE, AsOf, Source, parse_moment
from streams.evaluation import Evaluation, Events, States, Told, page
from streams.evaluation import evaluate as run_evaluation
from streams.evaluation.peer import NAME
from streams.evaluation.words import (
    Rows,
    lifetimes_words,
    prequential_rows,
    prequential_words,
    tables_of,
)
from streams.files.outgoing import OutgoingEvent

LONGEST = 3660
"""Days that a holdout may have: the longest horizon of a value."""


def evaluate(
    source: options.PopulationName = None,
    *,
    topics: options.FromTopics = False,
    split: Annotated[
        list[str],
        typer.Option(
            metavar="DATE",
            help="Last day that is known; what follows is predicted, until the last event's day; "
            "of topics, until yesterday. Repeat.",
        ),
    ],
    model: Annotated[PurchaseModelName, typer.Option(help=PURCHASE_MODEL)] = DEFAULT,
    prequential: Annotated[
        bool,
        typer.Option(
            "--prequential/--no-prequential",
            help="Also refit each week from the first split on, and predict the next four weeks.",
        ),
    ] = True,
    html: Annotated[
        Path | None, typer.Option(help="Also write one page with tables and plots.")
    ] = None,
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
    as_json: options.AsJson = False,
) -> None:
    """Fit on what was known on a day, and hold what is expected against what happened after it."""
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
        in_sample=in_sample,
    )
    found = _run(opened, split, model.value, prequential)
    notes = _notes(opened, found)
    for note in notes:
        say(note)
    shop_currency = opened.economics.currency
    if html is not None:
        html.write_text(
            page(opened.name, shop_currency, found.splits, found.prequential, notes),
            encoding="utf-8",
        )
        say(f"written to {html}")
    if as_json:
        print_json(
            {
                "source": opened.name,
                "currency": shop_currency,
                "notes": notes,
                "splits": [asdict(each) for each in found.splits],
                "prequential": found.prequential and asdict(found.prequential),
            }
        )
        return
    for report in found.splits:
        for rows in tables_of(report, shop_currency):
            out().print(_table(rows))
    if found.prequential is not None:
        out().print(_table(prequential_rows(found.prequential)))
        out().print(prequential_words(found.prequential))


def _run(source: Source, split: list[str], model: str, prequential: bool) -> Evaluation:
    economics = source.economics
    events = [] if source.states is not None else list(source.events())
    end = _yesterday(source) if source.states is not None else _end(source, events)
    until = economics.day(milliseconds(end.moment))
    days = sorted({_day(text, economics, until) for text in split})
    with progress_bars() as bars:
        if source.states is not None:
            task = bars.add_task(f"Evaluating {source.name}", total=None, note="days")
        else:
            task = bars.add_task(f"Evaluating {source.name}", total=source.expected, note="events")

        def moved(number: int) -> None:
            bars.advance(task, number)

        told: Told = Events(events, moved)
        if source.states is not None:
            told = States(source.states, moved)
        found = run_evaluation(told, economics, days, until, model, prequential=prequential)
    if source.states is None:
        report_folding(found.result, source, end)
    return found


def _yesterday(source: Source) -> AsOf:
    """The end of the last day that is over."""
    now = source.now
    assert now is not None  # noqa: S101 - topics are read now.
    return AsOf.end_of(end_of_day(now - timedelta(days=1), source.economics))


def _end(source: Source, events: list[OutgoingEvent]) -> AsOf:
    """The end of the last event's day, of those that are not dated in the future."""
    if source.now is None:
        return source.last_day()
    latest = source.now + timedelta(days=1)
    last = max((event.time for event in events if event.time <= latest), default=None)
    if last is None:
        raise CommandError(f"{source.name}: there are no events in it until now")
    return AsOf.end_of(end_of_day(last, source.economics))


def _day(text: str, economics: Economics, until: int) -> int:
    moment = parse_moment(text, economics, "--split")
    day = economics.day(milliseconds(moment))
    if day >= until:
        raise CommandError(
            f"--split is {text!r}, and no event is later, so there is nothing to hold the numbers "
            "against; choose an earlier day"
        )
    if until - day > LONGEST:
        raise CommandError(
            f"--split is {text!r}, {until - day} days before the last event; at most {LONGEST} "
            "days can be predicted"
        )
    return day


def _notes(source: Source, found: Evaluation) -> list[str]:
    notes = [f"note: {note}" for note in found.notes]
    if found.left_out:
        notes.append(
            f"{found.left_out} customers are left out: they were merged or erased later, or have "
            "too many orders to be looked at one by one"
        )
    if words := lifetimes_words(found.splits, found.has_lifetimes, NAME):
        notes.append(words)
    if source.simulated:
        notes.append(SIMULATED_NOTE)
    return notes


def _table(rows: Rows) -> Table:
    table = Table(title=rows.title)
    for number, name in enumerate(rows.headers):
        table.add_column(name, justify="right" if number else "left")
    for row in rows.rows:
        table.add_row(*row)
    return table
