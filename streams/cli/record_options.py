"""What is recorded or replayed: topics, from where, until where, and of whom."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from models.contracts import TYPES_OF_TOPIC
from models.economics import Economics
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError
from streams.cli.sources import parse_moment
from streams.recording import BEGINNING, END, Bound, OfCustomers, RecordedTopic
from streams.settings import Settings, Topics
from streams.topics import partition_counts

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
    if text is None:
        return BEGINNING
    if text.isdecimal():
        return Bound(f"offset {text}", offset=int(text))
    if _DATE.fullmatch(text):
        moment = _midnight(text, economics, "--from")
    else:
        moment = parse_moment(text, economics, "--from")
    return Bound(moment.isoformat(), time=_milliseconds(moment))


def parse_until(text: str | None, economics: Economics) -> Bound:
    """Where a slice ends: before this; a date stands for its last moment. CommandError."""
    if text is None or text == "end":
        return END
    if text.isdecimal():
        return Bound(f"offset {text}", offset=int(text))
    if _DATE.fullmatch(text):
        following = _midnight(text, economics, "--until", days=1)
        return Bound(f"the end of {text}", time=_milliseconds(following))
    moment = parse_moment(text, economics, "--until")
    return Bound(moment.isoformat(), time=_milliseconds(moment))


def parse_roles(text: str) -> tuple[str, ...]:
    """Roles of topics in "orders,support", "inputs" or "all", in the order of ROLES."""
    wanted: set[str] = set()
    for part in text.split(","):
        name = part.strip()
        if name == "all":
            wanted |= set(ROLES)
        elif name == "inputs":
            wanted |= set(INPUTS)
        elif name in ROLES:
            wanted.add(name)
        else:
            raise CommandError(
                f"{name!r} is no topic that can be recorded: name some of {', '.join(ROLES)}, "
                "joined by commas, or inputs, or all"
            )
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
    counts = await partition_counts(need_broker(settings))
    names = names_of(settings.topics)
    missing = [names[role] for role in roles if names[role] not in counts]
    if missing:
        raise CommandError(
            f"there is no topic {', '.join(missing)} at {need_broker(settings)}, or none that this "
            "user may see; name fewer by --topics, or set CLV_TOPICS__… if they have other names"
        )
    return [RecordedTopic(role, names[role], counts[names[role]]) for role in roles]


def names_of(topics: Topics) -> Mapping[str, str]:
    """Names of the topics by role."""
    names: dict[str, str] = topics.model_dump()
    return names


def _midnight(text: str, economics: Economics, option: str, *, days: int = 0) -> datetime:
    try:
        day = date.fromisoformat(text) + timedelta(days=days)
    except ValueError as error:
        raise CommandError(f"{option} is {text!r}: {error}") from error
    except OverflowError as error:
        raise CommandError(f"{option} is {text!r}, and no day follows it: write end") from error
    return datetime.combine(day, time(), ZoneInfo(economics.timezone))


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
