"""`clv record`: a slice of topics to a file."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, progress_bars, say, warn
from streams.cli.options import AsJson
from streams.cli.record_options import (
    Since,
    Until,
    parse_customers,
    parse_roles,
    parse_since,
    parse_until,
    topics_at_broker,
)
from streams.cli.running import run
from streams.recording import (
    Bound,
    End,
    Head,
    OfCustomers,
    Pseudonyms,
    Taken,
    live_slice,
    record_slice,
)
from streams.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SECRET_VARIABLE = "CLV_PSEUDONYM_SECRET"  # noqa: S105 - the name of a variable


def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording to write.")],
    *,
    topics: Annotated[
        str,
        typer.Option(
            "--topics",
            metavar="NAMES",
            help="Some of models, orders, support, customers, clock; or inputs; or all.",
        ),
    ] = "all",
    since: Since = None,
    until: Until = None,
    customers: Annotated[
        str | None,
        typer.Option(
            "--customers", metavar="A,B|@FILE", help="Record only what is about these customers."
        ),
    ] = None,
    pseudonyms: Annotated[
        bool,
        typer.Option(
            "--pseudonyms",
            help="Put other ids in the place of all ids; by the secret in CLV_PSEUDONYM_SECRET.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Record topics as they are now, without a consumer group: nobody notices.

    The file is complete when it is there; an interrupted recording leaves none.
    """
    settings = load_settings()
    need_broker(settings)
    if file.exists() and not force:
        raise CommandError(f"{file} exists; name another file, or replace it by --force")
    if not file.parent.is_dir():
        raise CommandError(f"{file.parent} is no directory; make it first")
    named = pseudonyms_of(pseudonyms)
    taken = run(
        _record(
            settings,
            file,
            parse_roles(topics),
            (parse_since(since, settings.economics), parse_until(until, settings.economics)),
            customers=parse_customers(customers),
            pseudonyms=named,
        )
    )
    if as_json:
        print_json({"file": str(file), "bytes": taken.bytes, **document(taken.head, taken.end)})
    else:
        megabytes = taken.bytes / 1e6
        say(f"{taken.end.records:,} records in {file}, {megabytes:,.1f} MB: {by_topic(taken)}")
        say(f"digest {taken.end.digest.hex()}")
    _warn_of(taken)


def pseudonyms_of(wanted: bool) -> Pseudonyms | None:
    """What makes pseudonyms, if they are wanted: with the configured secret, or a new one."""
    if not wanted:
        return None
    secret = os.environ.get(SECRET_VARIABLE)
    if secret is None:
        say(
            f"{SECRET_VARIABLE} is not set: a secret was made for this recording and is not kept. "
            "Nobody can tell who is who, and another recording has other pseudonyms"
        )
        return Pseudonyms(secrets.token_bytes(32))
    if len(secret) < 16:
        raise CommandError(
            f"{SECRET_VARIABLE} has {len(secret)} characters: whoever guesses it can tell who is "
            "who; write 16 at least, such as `openssl rand -hex 32` gives"
        )
    return Pseudonyms(secret.encode())


async def _record(
    settings: Settings,
    file: Path,
    roles: tuple[str, ...],
    bounds: tuple[Bound, Bound],
    *,
    customers: OfCustomers | None,
    pseudonyms: Pseudonyms | None,
) -> Taken:
    topics = await topics_at_broker(settings, roles)
    async with live_slice(need_broker(settings), topics, *bounds) as live:
        with progress_bars() as bars:
            task = bars.add_task("Recording", total=live.total, note="offsets")
            return await record_slice(
                file,
                live,
                *bounds,
                customers=customers,
                pseudonyms=pseudonyms,
                progress=lambda done, total: bars.update(task, completed=done, total=total),
            )


def document(head: Head, end: End) -> dict[str, Any]:
    """What a recording holds, for --json."""
    return {
        "recorded_at": shown_time(head.recorded_at),
        "from": head.since,
        "until": head.until,
        "customers": head.customers,
        "pseudonyms": head.pseudonyms,
        "records": end.records,
        "topics": [
            {
                "role": topic.role,
                "name": topic.name,
                "partitions": topic.partitions,
                "records": records,
            }
            for topic, records in zip(head.topics, end.by_topic, strict=True)
        ],
        "first": shown_time(end.first),
        "last": shown_time(end.last),
        "left_out": end.left_out,
        "digest": end.digest.hex(),
    }


def shown_time(milliseconds: int | None) -> str | None:
    """A time as text; None for none. Beyond the year 9999, which has no date, the milliseconds."""
    if milliseconds is None:
        return None
    try:
        return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat()
    except OverflowError:
        return f"{milliseconds} ms"


def by_topic(taken: Taken) -> str:
    """How many records of each topic."""
    counts = zip(taken.head.topics, taken.end.by_topic, strict=True)
    return ", ".join(f"{topic.name} {records:,}" for topic, records in counts)


def _warn_of(taken: Taken) -> None:
    left_out = dict(taken.end.left_out)
    if taken.head.pseudonyms and left_out:
        listed = ", ".join(f"{reason}: {count:,}" for reason, count in sorted(left_out.items()))
        warn(
            f"{sum(left_out.values()):,} records are not in the recording ({listed}). Under "
            "pseudonyms only what can be read as an event is kept: the rest could hold ids. A "
            "replay has no dead letters for them"
        )
    for waiting in taken.waiting:
        warn(
            f"{waiting}: what follows belongs to a transaction that is still open, and is not in "
            "the recording"
        )
