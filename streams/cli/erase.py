"""`clv erase`: erase a customer, and prove what is left of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from models.events.identities import CustomerErased
from streams.basis.judge import moment
from streams.basis.logs import kafka_logs
from streams.cache import connect
from streams.cli.configuration import load_settings, need_broker, need_erasure_key
from streams.cli.console import CommandError, out, print_json, say
from streams.cli.options import AsJson
from streams.cli.running import command
from streams.cli.sources import parse_moment
from streams.erasing.merged import known_as
from streams.erasing.order import done_by_workers, publish_erasure
from streams.erasing.proving import Stores, prove
from streams.erasing.trace import Proof
from streams.kafka.topics import topic_facts
from streams.settings import Settings
from streams.topics import plan

LEFT = 3
"""Exit status when something is left that does not go by itself."""

WITHIN_SECONDS = 180.0
"""Workers write a copy anew a minute after an erasure; they may be busy."""

_LISTED = 20
"""Traces of one kind that are printed one by one."""


@command
async def erase(
    customer: Annotated[str, typer.Argument(metavar="CUSTOMER", help="The customer's id.")],
    *,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Erase what happened until then; a date is the end of that day. Default: now.",
        ),
    ] = None,
    proving: Annotated[
        bool,
        typer.Option("--prove", help="Wait until it is done, and say what is left where."),
    ] = False,
    look: Annotated[
        bool,
        typer.Option("--look", help="Publish nothing: only say what is left where."),
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID",
            help="Another id of the customer; those that the changelog knows are found.",
        ),
    ] = None,
    state_dir: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="A worker's state directory. Default: CLV_STATE_DIR."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="A recording or an export to look into."),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0, help="How long to wait for the workers; --look does not wait."
        ),
    ] = None,
    until_gone: Annotated[
        bool,
        typer.Option(
            "--until-gone", help="Look again and again, for as long, until nothing is left."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Erase a customer; with --prove say what is left where, and until when.

    The exit status is 3 when something is left that does not go by itself.
    """
    settings = load_settings()
    broker = need_broker(settings)
    need_erasure_key(settings)
    erased_at = _moment(settings, customer, as_of)
    proving = proving or look
    if within is None:
        within = 0.0 if look and not until_gone else WITHIN_SECONDS
    state_dirs = _directories(settings, state_dir)
    _check_files(file or [])
    await broker.check()
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(kafka_logs(broker, settings.app_id))
        ids = [customer, *(also or [])]
        if proving:
            # Before it is published: an erasure takes away what says whom a customer was merged
            # with.
            ids = await known_as(settings, logs, ids)
        if not look:
            tp, offset = await publish_erasure(settings, broker, customer, erased_at)
            say(
                f"published as {tp}@{offset}: everything until "
                f"{erased_at.isoformat(timespec='seconds')} is erased"
            )
        if not proving:
            return
        if not look:
            await done_by_workers(settings, logs, {tp: offset}, within)
        redis = None
        if settings.redis is not None:
            redis = connect(settings.redis, settings.redis_security)
            stack.push_async_callback(redis.aclose)
        stores = Stores(redis, state_dirs, file or [])
        names = list(await logs.describe([topic.name for topic in plan(settings)]))
        configs = {each.name: each.config for each in await topic_facts(logs.admin, names)}
        proof = await prove(
            settings, logs, stores, configs, ids, within=within, until_gone=until_gone
        )
    if as_json:
        print_json(proof.document())
    else:
        _print(proof)
    if not proof.is_clean:
        raise typer.Exit(LEFT)


def _moment(settings: Settings, customer: str, as_of: str | None) -> datetime:
    given = parse_moment(as_of, settings.economics, "--as-of") if as_of else datetime.now(UTC)
    try:
        CustomerErased(customer_id=customer, erased_at=given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise CommandError(f"CUSTOMER {customer!r}: {problem['msg']}") from error
    return given


def _directories(settings: Settings, given: list[Path] | None) -> list[Path]:
    if given is None:
        return [] if settings.state_dir is None else [settings.state_dir]
    for path in given:
        if not path.is_dir():
            raise CommandError(f"--state-dir {path}: there is no such directory")
    return given


def _check_files(paths: list[Path]) -> None:
    for path in paths:
        if not path.is_file():
            raise CommandError(f"--file {path}: there is no such file")


def _print(proof: Proof) -> None:
    line = partial(out().print, soft_wrap=True)
    line(f"looked for {', '.join(map(repr, proof.ids))} in")
    for each in proof.looked:
        line(f"  {each}")
    for each in proof.skipped:
        line(f"  not in {each}")
    kinds: dict[tuple[str, str, str], list[str]] = {}
    for trace in proof.traces:
        until = "stays" if trace.until.at is None else f"goes by {moment(trace.until.at)}"
        kinds.setdefault((trace.what, until, trace.until.why), []).append(trace.place)
    for (what, until, why), places in kinds.items():
        shown = ", ".join(places[:_LISTED])
        more = f" and {len(places) - _LISTED} more" if len(places) > _LISTED else ""
        line(f"{until}: {what}: {shown}{more} ({why})")
    if proof.remembered:
        line("late events of before the erasure are ignored: a keyed fingerprint is kept")
    line(proof.verdict)
