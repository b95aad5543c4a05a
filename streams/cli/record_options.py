"""What is recorded or replayed: topics, from where, until where, and of whom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from models.calendar import beginning_of_day, milliseconds
from models.contracts import TYPES_OF_TOPIC
from models.economics import Economics
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError
from streams.cli.sources import parse_moment
from streams.kafka.connection import Broker
from streams.kafka.topics import partition_counts
from streams.recording import BEGINNING, END, Bound, OfCustomers, RecordedTopic
from streams.settings import Settings

INPUTS = tuple(TYPES_OF_TOPIC)
ROLES = ("models", *INPUTS, "clock")
"""Topics that make the result, in the order in which records of the same time are replayed: what
values them comes first, and the passing of time last."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

Since = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="TIME|OFFSET", help="Where to begin, by the records' timestamps."
    ),
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME|OFFSET|end", help="Where to end; a date counts whole."),
]


def parse_since(text: str | None, economics: Economics) -> Bound:
    """Where a slice begins: a date stands for its first moment. CommandError."""
    return BEGINNING if text is None else _bound(text, economics, "--from")


def parse_until(text: str | None, economics: Economics) -> Bound:
    """Where a slice ends: before this; a date stands for its last moment. CommandError."""
    return END if text in (None, "end") else _bound(text or "", economics, "--until", days=1)


def parse_slice(since: str | None, until: str | None, economics: Economics) -> tuple[Bound, Bound]:
    """Where a slice begins and ends; CommandError, also where nothing can lie between."""
    first, last = parse_since(since, economics), parse_until(until, economics)
    if _not_before(first.time, last.time) or _not_before(first.offset, last.offset):
        raise CommandError(
            f"--from {since} is not before --until {until}: nothing can lie between {first.words} "
            f"and {last.words}; give an earlier --from, or a later --until"
        )
    return first, last


def _not_before(first: int | None, last: int | None) -> bool:
    return first is not None and last is not None and first >= last


def _bound(text: str, economics: Economics, option: str, *, days: int = 0) -> Bound:
    """An offset, a moment, or the midnight so many days after the beginning of a date."""
    if text.isdecimal():
        return Bound(f"offset {text}", offset=int(text))
    if _DATE.fullmatch(text):
        moment = _midnight(text, economics, option, days=days)
    else:
        moment, days = parse_moment(text, economics, option), 0
    words = f"the end of {text}" if days else moment.isoformat()
    return Bound(words, time=milliseconds(moment))


def parse_roles(text: str) -> tuple[str, ...]:
    """Roles of topics in "orders,support", "inputs" or "all", in the order of ROLES."""
    known = {"all": ROLES, "inputs": INPUTS} | {role: (role,) for role in ROLES}
    wanted: set[str] = set()
    for name in map(str.strip, text.split(",")):
        if name not in known:
            raise CommandError(
                f"{name!r} is no topic that can be recorded: name some of {', '.join(ROLES)}, "
                "joined by commas, or inputs, or all"
            )
        wanted |= set(known[name])
    return tuple(role for role in ROLES if role in wanted)


def parse_customers(text: str | None) -> OfCustomers | None:
    """Customers in "a,b", or the lines of a file in "@file"; None: all. CommandError."""
    if text is None:
        return None
    if text.startswith("@"):
        try:
            named = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(
                f"--customers {text}: {error}; name a text file, an id a line"
            ) from (error)
    else:
        named = text.split(",")
    ids = {name.strip() for name in named} - {""}
    if not ids:
        raise CommandError(f"--customers {text!r} names nobody: write a,b or @file")
    return OfCustomers(ids)


async def topics_at_broker(settings: Settings, roles: Sequence[str]) -> list[RecordedTopic]:
    """The configured topics with their partitions; CommandError for one that is missing."""
    names = settings.topics.model_dump()
    return await topics_there(
        need_broker(settings),
        {role: names[role] for role in roles},
        "name fewer by --topics, or set CLV_TOPICS__… if they have other names",
    )


async def topics_there(
    broker: Broker, names: Mapping[str, str], remedy: str
) -> list[RecordedTopic]:
    """These topics, by role, with their partitions; CommandError, with the remedy, if one lacks."""
    counts = await partition_counts(broker)
    missing = [name for name in names.values() if name not in counts]
    if missing:
        raise CommandError(
            f"there is no topic {', '.join(missing)} at {broker}, or none that this user may see; "
            f"{remedy}"
        )
    return [RecordedTopic(role, name, counts[name]) for role, name in names.items()]


def _midnight(text: str, economics: Economics, option: str, *, days: int) -> datetime:
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
    except ValueError as error:
        raise CommandError(f"{option} is {text!r}: {error}") from error
    except OverflowError as error:
        raise CommandError(f"{option} is {text!r}, and no day follows it: write end") from error
    return beginning_of_day(day, ZoneInfo(economics.timezone))
