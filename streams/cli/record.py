"""`clv record`: a slice of topics to a file."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import asdict

from models.events.kinds import IDENTITIES
from streams.basis.logs import kafka_logs
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, progress_bar, say, warn
from streams.cli.options import AsJson
from streams.cli.record_options import (
    ROLES,
    Since,
    Until,
    parse_customers,
    parse_roles,
    parse_slice,
    topics_at_broker,
)
from streams.cli.running import command
from streams.erasing.merged import merged_with
from streams.recording import (
    End,
    Head,
    OfCustomers,
    Pseudonyms,
    Taken,
    live_slice,
    record_slice,
    some_of,
)
from streams.settings import Settings
from streams.topics import changelog_topic

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SECRET_VARIABLE = "CLV_PSEUDONYM_SECRET"  # noqa: S105 - the name of a variable


@command
async def record(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The recording to write.")],
    *,
    topics: Annotated[
        str,
        typer.Option(
            "--topics",
            metavar="NAMES",
            help=f"Some of {', '.join(ROLES)}; or inputs; or all.",
        ),
    ] = "all",
    since: Since = None,
    until: Until = None,
    customers: Annotated[
        str | None,
        typer.Option(
            "--customers",
            metavar="A,B|@FILE",
            help="Record only what is about these customers, and those merged with them.",
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
    roles, chosen = parse_roles(topics), parse_customers(customers)
    bounds = parse_slice(since, until, settings.economics)
    named = pseudonyms_of(pseudonyms)
    found = await topics_at_broker(settings, roles)
    if chosen is not None:
        chosen = await _with_merged(settings, chosen, roles)
    async with live_slice(need_broker(settings), found, *bounds) as live:
        with progress_bar("Recording", "offsets") as moved:
            taken = await record_slice(
                file, live, *bounds, customers=chosen, pseudonyms=named, progress=moved
            )
    if as_json:
        merged = [] if chosen is None else chosen.merged
        held = document(taken.head, taken.end)
        print_json({"file": str(file), "bytes": taken.bytes, "merged": merged, **held})
    else:
        megabytes = taken.bytes / 1e6
        say(f"{taken.end.records:,} records in {file}, {megabytes:,.1f} MB: {by_topic(taken)}")
        say(f"digest {taken.end.digest.hex()}")
    _warn_of(taken)


async def _with_merged(
    settings: Settings, chosen: OfCustomers, roles: Collection[str]
) -> OfCustomers:
    """The customers, and all that were merged with them: their history counts for them."""
    async with kafka_logs(need_broker(settings), settings.app_id) as logs:
        known, all_of_them = await merged_with(settings, logs, sorted(chosen.asked))
    if not all_of_them:
        topics = f"{settings.topics.identities} and {changelog_topic(settings)}"
        warn(
            f"{topics} are not there, incomplete, or not for this user to see: if others were "
            "merged with these customers, name them by --customers too"
        )
    chosen = OfCustomers(chosen.asked, known)
    if chosen.merged:
        say(f"{some_of(chosen.merged)} too: merged with those that --customers names")
    if chosen.merged and IDENTITIES not in roles:
        warn(
            f"--topics leaves out {IDENTITIES}, and with it that they were merged: a replay takes "
            "them for several customers"
        )
    return chosen


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
            {**asdict(topic), "records": records}
            for topic, records in zip(head.topics, end.by_topic, strict=True)
        ],
        "first": shown_time(end.first),
        "last": shown_time(end.last),
        "left_out": end.left_out,
        "apart": end.apart,
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
    if taken.absent:
        warn(
            f"no record is about {some_of(taken.absent)}: check how --customers spells them, and "
            "whether --topics, --from and --until take in what is about them"
        )
    if taken.end.apart:
        warn(
            f"{some_of(taken.end.apart)} were merged with the customers meanwhile, and their own "
            "events are not in the recording: values lack them. Record again"
        )
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
