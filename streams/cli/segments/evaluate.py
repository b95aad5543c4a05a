"""`clv segments evaluate`: what became of the customers whom the rules put where, on a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date, timedelta
from typing import Annotated

import typer
from rich.table import Table

from models.calendar import milliseconds
from models.evaluation.segments import Course, Members
from streams.cli import options
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json, progress_bars, say
from streams.cli.sources import Source, open_source
from streams.evaluation.segments import WEEK, SegmentsReport, evaluate_segments
from streams.files.outgoing import OutgoingEvent

ABOUT = (
    "customers · of them bought again within 90 days · within 365 days; or within as many as the "
    "column says, where the file ends before"
)


def evaluate(
    source: options.SourceName,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--dimension", metavar="NAME", help="Only this dimension. Repeat."),
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
    as_json: options.AsJson = False,
) -> None:
    """Follow the customers of a file week by week: who bought again from each segment."""
    settings = load_settings()
    rules = settings.rules
    if only:
        unknown = [name for name in only if name not in rules.by_name]
        if unknown:
            raise CommandError(
                f"there is no dimension {unknown[0]!r}; there are {', '.join(rules.by_name)}"
            )
        chosen = tuple(each for each in rules.dimensions if each.name in only)
        rules = rules.model_copy(update={"dimensions": chosen})
    opened = open_source(
        source,
        settings.economics,
        columns=columns,
        currency=currency,
        timezone=timezone,
        line_items=line_items,
        shop=shop,
        statuses=status,
        ignore_status=ignore_status,
        decimal=decimal,
        keep_going=keep_going,
    )
    events = list(opened.events())
    days = _days(opened, events)
    with progress_bars() as bars:
        task = bars.add_task(f"Evaluating {opened.name}", total=len(events), note="events")
        report = evaluate_segments(
            events,
            opened.economics,
            rules,
            days,
            progress=lambda number: bars.advance(task, number),
        )
    if as_json:
        print_json(_as_json(opened.name, rules.version, report))
        return
    say(ABOUT)
    for course in report.courses:
        out().print(_table(course, report.until))


def _days(source: Source, events: Sequence[OutgoingEvent]) -> tuple[int, int]:
    """Return the days of the first and the last event, of those that are not in the future."""
    times = [each.time for each in events]
    if source.now is not None:
        latest = source.now + timedelta(days=1)
        times = [time for time in times if time <= latest]
    if not times:
        raise CommandError(f"{source.name}: there are no events in it until now")
    day = source.economics.day
    first, until = (day(milliseconds(each)) for each in (min(times), max(times)))
    if until - first < WEEK:
        raise CommandError(
            f"{source.name}: its events are of {until - first + 1} days, and more than {WEEK} are "
            "needed to follow anybody"
        )
    return first, until


def _table(course: Course, until: int) -> Table:
    names = list(_used(course))
    table = Table(
        title=f"{course.dimension}: of 1,000 customers in a year {course.changes:,.0f} change, and "
        f"{course.back_and_forth:,.0f} go back and forth within 30 days"
    )
    for name in ("as of", "followed", *names):
        table.add_column(name, justify="left" if name == "as of" else "right")
    for look in course.looks:
        cells = (_cell(look.of(name)) for name in names)
        followed = f"{min(until - look.day, 365)} days"
        table.add_row(date.fromordinal(look.day).isoformat(), followed, *cells)
    return table


def _used(course: Course) -> Iterator[str]:
    for each in course.looks[-1].members:
        if any(look.of(each.segment).customers for look in course.looks):
            yield each.segment


def _cell(members: Members) -> str:
    shares = [f"{each.share:.0%}" for each in members.again if each.share is not None]
    return " · ".join((f"{members.customers:,}", *shares)) if members.customers else "-"


def _as_json(name: str, version: str, report: SegmentsReport) -> dict[str, object]:
    courses = []
    for course in report.courses:
        content = asdict(course)
        for look in content["looks"]:
            look["day"] = date.fromordinal(look["day"]).isoformat()
        courses.append(content)
    return {"source": name, "rules": version, "dimensions": courses}
