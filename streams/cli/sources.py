"""Where a command's events come from: a file of orders, or a published data set."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from models.economics import Economics
from streams.batch import end_of_day
from streams.cli.console import CommandError
from streams.datasets import DATASETS, Dataset, with_simulation
from streams.files import OutgoingEvent, count_rows, read_orders

SIMULATED_NOTE = "support, refunds, cancellations, acquisition costs and surveys are simulated"


@dataclass(frozen=True, slots=True)
class Source:
    """Events that can be read any number of times, and the shop they belong to.

    as_of: a data set's own; None for a file. expected: how many events there are, about; None when
    finding out is not cheap.
    """

    name: str
    economics: Economics
    events: Callable[[], Iterator[OutgoingEvent]]
    as_of: datetime | None = None
    expected: int | None = None
    simulated: bool = False

    def end(self) -> datetime:
        """A data set's own as-of time, or the end of the last event's day."""
        return self.as_of or self.last_day()

    def last_day(self) -> datetime:
        """The end of the day of the last event; reads a file once."""
        if self.as_of is not None:
            last = self.as_of - timedelta(microseconds=1)
        else:
            latest = max((event.time for event in self.events()), default=None)
            if latest is None:
                raise CommandError(f"{self.name}: there are no events in it")
            last = latest
        return end_of_day(last, self.economics)


def open_source(
    name: str,
    economics: Economics,
    *,
    columns: list[str] | None = None,
    currency: str | None = None,
    timezone: str | None = None,
    source: str | None = None,
    keep_going: bool = False,
    simulated: bool = False,
    seed: int = 1,
    in_sample: bool = False,
) -> Source:
    """The source of this name. Errors: CommandError, InputFileError, DatasetMissingError."""
    if name in DATASETS:
        if columns or source or keep_going:
            raise CommandError(
                f"--columns, --source and --keep-going are for files; {name} is a data set "
                f"(the file of that name would be ./{name})"
            )
        dataset = DATASETS[name]
        shop = economics_of(economics, currency or dataset.currency, timezone)
        return _of_dataset(dataset, shop, simulated, seed, in_sample)
    if simulated or in_sample:
        raise CommandError(
            f"--simulated and --in-sample are for data sets ({', '.join(DATASETS)}), not for files"
        )
    shop = economics_of(economics, currency, timezone)
    named = parse_columns(columns or [])

    def events() -> Iterator[OutgoingEvent]:
        return read_orders(
            name,
            named,
            currency,
            source,
            timezone=shop.timezone,
            errors="publish" if keep_going else "raise",
        )

    try:
        events()  # Raises at once for a missing file and wrong arguments.
    except ValueError as error:
        raise CommandError(str(error)) from error
    return Source(name, shop, events, expected=count_rows(name))


def _of_dataset(
    dataset: Dataset, economics: Economics, simulated: bool, seed: int, in_sample: bool
) -> Source:
    if in_sample and (dataset.name != "cdnow" or simulated):
        raise CommandError("--in-sample is for cdnow, and without simulated events")
    dataset.path()
    if in_sample:
        return Source(dataset.name, economics, lambda: _sample_of(dataset), dataset.as_of)
    if simulated:
        return Source(
            dataset.name,
            economics,
            lambda: with_simulation(dataset, seed),
            dataset.as_of,
            simulated=True,
        )
    expected = dataset.orders + dataset.refunds
    return Source(dataset.name, economics, dataset.events, dataset.as_of, expected)


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
    if currency is not None and not economics.accepts(currency):
        changes |= {"currency": currency, "exchange_rates": {}}
    if timezone is not None:
        changes["timezone"] = timezone
    if not changes:
        return economics
    try:
        return Economics.model_validate(economics.model_dump() | changes)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        message = problem["msg"].removeprefix("Value error, ")
        raise CommandError(f"--{problem['loc'][0]}: {message}") from error
    except KeyError as error:
        raise CommandError(
            f"--timezone: {timezone!r} is not a time zone; name one such as Europe/Berlin"
        ) from error


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


def parse_moment(text: str, economics: Economics, option: str) -> datetime:
    """A time, or a date, which stands for the end of that day in the shop's time zone.

    A time without an offset is local.
    """
    zone = UTC if economics.timezone == "UTC" else ZoneInfo(economics.timezone)
    try:
        if len(text) == len("1997-09-30"):
            noon = datetime.combine(date.fromisoformat(text), time(12), zone)
            return end_of_day(noon, economics)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(
            f"{option} is {text!r}: write a date, 1997-09-30, or a time, 1997-09-30T12:00:00Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
