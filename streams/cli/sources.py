"""Where a command's events come from: a file of orders, or a published data set."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from models import calendar
from models.economics import Economics
from streams.batch import end_of_day
from streams.cli.console import CommandError
from streams.datasets import DATASETS
from streams.datasets.dataset import Dataset
from streams.datasets.simulate import with_simulation
from streams.files.outgoing import OutgoingEvent
from streams.files.reader import read_orders
from streams.files.report import FileReport
from streams.files.rows import count_rows

SIMULATED_NOTE = "support, refunds, cancellations, acquisition costs and surveys are simulated"


class AsOf(NamedTuple):
    """A time as of which customers are scored, and before which everything counts.

    moment: of a day, its last millisecond, so that the day is the last one that counts. before: of
    a day, the beginning of the next one.
    """

    moment: datetime
    before: datetime

    @classmethod
    def end_of(cls, end: datetime) -> AsOf:
        """As of the end of a day, which is the beginning of the next one."""
        return cls(calendar.last_millisecond(end), end)


@dataclass(frozen=True, slots=True)
class Source:
    """Events that can be read any number of times, and the shop they belong to.

    as_of: a data set's own; None for a file. expected: how many events there are, about; None when
    finding out is not cheap. now: events of a file that are dated more than a day later are
    refused.
    """

    name: str
    economics: Economics
    events: Callable[[], Iterator[OutgoingEvent]]
    as_of: datetime | None = None
    expected: int | None = None
    simulated: bool = False
    now: datetime | None = None
    states: Mapping[bytes, bytes] | None = None
    """The customers' records, if they were read instead of events."""
    report: FileReport = field(default_factory=FileReport)
    """Which rows did not count when the file was last read."""

    def end(self) -> AsOf:
        """A data set's own as-of time, or the end of the last event's day."""
        return AsOf(self.as_of, self.as_of) if self.as_of is not None else self.last_day()

    def last_day(self) -> AsOf:
        """The end of the day of the last event; reads a file once."""
        if self.as_of is not None:
            last = self.as_of - timedelta(microseconds=1)
        else:
            latest = max((event.time for event in self.events()), default=None)
            if latest is None:
                raise CommandError(f"{self.name}: there are no events in it")
            last = latest
        return AsOf.end_of(end_of_day(last, self.economics))


def open_source(
    name: str,
    economics: Economics,
    *,
    columns: list[str] | None = None,
    currency: str | None = None,
    timezone: str | None = None,
    source: str | None = None,
    line_items: bool = False,
    shop: str | None = None,
    statuses: list[str] | None = None,
    ignore_status: bool = False,
    decimal: Literal["point", "comma"] = "point",
    keep_going: bool = False,
    simulated: bool = False,
    seed: int = 1,
    in_sample: bool = False,
    now: datetime | None = None,
) -> Source:
    """The source of this name; now: the clock's time, if another is meant.

    Errors: CommandError, InputFileError, DatasetMissingError."""
    if name in DATASETS:
        if any((columns, source, line_items, shop, statuses, ignore_status, keep_going)):
            raise CommandError(
                "--columns, --source, --line-items, --shop, --status, --ignore-status and "
                f"--keep-going are for files; {name} is a data set "
                f"(the file of that name would be ./{name})"
            )
        dataset = DATASETS[name]
        own = economics_of(economics, currency or dataset.currency, timezone)
        return _of_dataset(dataset, own, simulated, seed, in_sample)
    if simulated or in_sample:
        raise CommandError(
            f"--simulated and --in-sample are for data sets ({', '.join(DATASETS)}), not for files"
        )
    own = economics_of(economics, currency, timezone)
    named = parse_columns(columns or [])
    meant = _parse_statuses(statuses or [])
    clock = datetime.now(UTC) if now is None else now

    report = FileReport()

    def events() -> Iterator[OutgoingEvent]:
        report.clear()
        return read_orders(
            name,
            named,
            currency,
            source,
            timezone=own.timezone,
            line_items=line_items,
            shop=shop,
            statuses=meant,
            ignore_status=ignore_status,
            decimal=decimal,
            errors="publish" if keep_going else "raise",
            now=clock,
            report=report,
        )

    try:
        events()  # Raises at once for a missing file and wrong arguments.
    except ValueError as error:
        raise CommandError(str(error)) from error
    return Source(name, own, events, expected=count_rows(name), now=clock, report=report)


def _of_dataset(
    dataset: Dataset, economics: Economics, simulated: bool, seed: int, in_sample: bool
) -> Source:
    if in_sample and (dataset.name != "cdnow" or simulated):
        raise CommandError("--in-sample is for cdnow, and without simulated events")
    dataset.path()  # Raises at once where it is missing.
    events, expected = dataset.events, None
    if in_sample:
        events = partial(_sample_of, dataset)
    elif simulated:
        events = partial(with_simulation, dataset, seed)
    else:
        expected = dataset.orders + dataset.refunds
    return Source(dataset.name, economics, events, dataset.as_of, expected, simulated)


def _sample_of(dataset: Dataset) -> Iterator[OutgoingEvent]:
    """The orders of the 1/10th sample that the papers use."""
    with gzip.open(dataset.path(), "rt", encoding="utf-8", newline="") as file:
        sample = {
            row["customer_id"].encode() for row in csv.DictReader(file) if row["in_sample"] == "1"
        }
    return (event for event in dataset.events() if event.key in sample)


def economics_of(economics: Economics, currency: str | None, timezone: str | None) -> Economics:
    """The shop's decisions for this source.

    Its currency becomes the reporting currency when no rate is configured to convert it.
    """
    changes: dict[str, Any] = {}
    if currency is not None and not economics.knows(currency):
        changes |= {"currency": currency, "exchange_rates": {}, "daily_rates": None}
    if timezone is not None:
        changes["timezone"] = timezone
    if not changes:
        return economics
    try:
        return Economics.model_validate(
            {**economics.model_dump(), "daily_rates": economics.daily_rates, **changes}
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        message = problem["msg"].removeprefix("Value error, ")
        raise CommandError(f"--{problem['loc'][0]}: {message}") from error


def parse_columns(given: list[str]) -> dict[str, str]:
    """`our=theirs` pairs, each an option of its own or several between commas."""
    named: dict[str, str] = {}
    for text in given:
        parts = text.split(",")
        if not all("=" in part for part in parts):
            parts = [text]
        for part in parts:
            ours, equals, theirs = part.partition("=")
            if not (equals and ours.strip() and theirs.strip()):
                raise CommandError(
                    f"--columns {part!r}: write our=theirs, such as customer_id='Customer ID'"
                )
            named[ours.strip()] = theirs.strip()
    return named


def _parse_statuses(given: list[str]) -> dict[str, str]:
    """`status=meaning`, each an option of its own."""
    meant = {}
    for text in given:
        status, equals, meaning = text.rpartition("=")
        if not equals:
            raise CommandError(f"--status {text!r}: write STATUS=MEANING, such as shipped=paid")
        meant[status] = meaning.strip()
    return meant


def parse_as_of(
    text: str, economics: Economics, option: str, *, such_as: str = "1997-09-30"
) -> AsOf:
    """A time, or the end of a day in the shop's time zone; a time without an offset is local."""
    day = _day(text, option, such_as)
    if day is None:
        moment = _time(text, economics, option, such_as)
        return AsOf(moment, moment)
    try:
        return AsOf.end_of(calendar.end_of_day(day, ZoneInfo(economics.timezone)))
    except OverflowError as error:
        raise CommandError(f"{option} is {text!r}, and no day follows it") from error


def parse_moment(text: str, economics: Economics, option: str) -> datetime:
    """A time, or the last millisecond of a day in the shop's time zone."""
    return parse_as_of(text, economics, option).moment


def parse_begin(text: str, economics: Economics, option: str, *, such_as: str) -> datetime:
    """A time, or the beginning of a day in the shop's time zone."""
    day = _day(text, option, such_as)
    if day is None:
        return _time(text, economics, option, such_as)
    return calendar.beginning_of_day(day, ZoneInfo(economics.timezone))


def _day(text: str, option: str, such_as: str) -> date | None:
    """A date; None for what is longer, and so a time."""
    if len(text) > len(such_as):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text, option, such_as) from error


def _time(text: str, economics: Economics, option: str, such_as: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise _no_time(text, option, such_as) from error
    zone = UTC if economics.timezone == "UTC" else ZoneInfo(economics.timezone)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)


def _no_time(text: str, option: str, such_as: str) -> CommandError:
    return CommandError(
        f"{option} is {text!r}: write a date, {such_as}, or a time, {such_as}T12:00:00Z"
    )
