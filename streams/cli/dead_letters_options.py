"""Which letters the options of `clv dead-letters` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from models.contracts import Reason
from streams.cli.console import CommandError
from streams.dead_letters import Selection
from streams.dead_letters.letter import UNKNOWN
from streams.dead_letters.selection import parse_place
from streams.settings import Settings

FORMER = ("not-supported",)
"""Reasons that only letters of earlier versions have."""

OfReason = Annotated[
    str | None, typer.Option("--reason", metavar="CODE", help="Only with this reason.")
]
OfTopic = Annotated[
    str | None, typer.Option("--topic", metavar="TOPIC", help="Only what came from this topic.")
]
OfCustomer = Annotated[
    str | None, typer.Option("--customer", metavar="ID", help="Only of this customer.")
]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only refused at or after this time.")
]


def selection(
    settings: Settings,
    *,
    reason: str | None,
    topic: str | None,
    customer: str | None,
    since: str | None,
    ids: Sequence[str] = (),
) -> Selection:
    """The letters that options ask for; raises CommandError."""
    known = [*(each.value for each in Reason), *FORMER, UNKNOWN]
    if reason is not None and reason not in known:
        raise CommandError(f"--reason is {reason!r}; reasons are {', '.join(known)}")
    places = frozenset(parse_id(text, settings) for text in ids)
    moment = None if since is None else _moment(since, settings)
    return Selection(reason, topic, customer, moment, places)


def parse_id(text: str, settings: Settings) -> tuple[int, int]:
    """Partition and offset of a letter; raises CommandError."""
    try:
        return parse_place(text, settings.topics.dead_letters)
    except ValueError as error:
        raise CommandError(str(error)) from error


def _moment(text: str, settings: Settings) -> datetime:
    """A time, or a date, which stands for its beginning in the shop's time zone."""
    name = settings.economics.timezone
    zone = UTC if name == "UTC" else ZoneInfo(name)
    try:
        if len(text) == len("2026-01-03"):
            return datetime.combine(date.fromisoformat(text), time_of_day(), zone)
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CommandError(
            f"--since is {text!r}: write a date, 2026-01-03, or a time, 2026-01-03T12:00:00Z"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
