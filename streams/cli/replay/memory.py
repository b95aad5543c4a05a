"""A replay in memory: at once, at its own pace, or step by step."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from select import select
from threading import Event
from typing import Annotated, Any

import typer

from models.contracts import NOTICES
from models.contracts.dead_letters import DeadLetter
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json, say, warn
from streams.cli.digest import print_result, warn_of
from streams.cli.options import AsJson
from streams.cli.record import shown_time
from streams.cli.record_options import Since, Until
from streams.cli.replay.options import SourceName, Speed, parse_speed
from streams.cli.replay.source import Asked, opened, shown
from streams.outcome.outcome import Outcome
from streams.outcome.snapshot import write_snapshot
from streams.recording import Recorded
from streams.replay.memory import Came, MemoryReplay, in_memory
from streams.replay.source import Source

_LOOK_SECONDS = 0.2


async def memory(
    source: SourceName,
    *,
    since: Since = None,
    until: Until = None,
    speed: Speed = "max",
    step: Annotated[
        bool, typer.Option("--step", help="One event at a time, and what it leads to.")
    ] = False,
    snapshot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write what came of it to a file, to compare with."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --snapshot, if it exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """In memory. Nothing else is needed, and nothing that runs is touched."""
    settings = load_settings()
    asked = Asked.of(source, since, until, settings.economics)
    if step and speed != "max":
        raise CommandError("--step waits for you after each event: leave out --speed")
    if snapshot is not None:
        _check_snapshot(snapshot, source, force=force)
    pace = parse_speed(speed)
    outcome = Outcome(detailed=snapshot is not None)
    async with (
        opened(settings, asked) as records,
        in_memory(settings, records, outcome) as replay,
    ):
        if step:
            await _step_by_step(replay, records, as_json=as_json)
        else:
            with shown(records, f"Replaying {asked.name}") as moved:
                await replay.run(pace, moved)
    if snapshot is not None:
        currency, events = settings.economics.currency, replay.input
        write_snapshot(
            snapshot, outcome.snapshot(), source=asked.name, currency=currency, replayed=events
        )
    for problem in replay.refused_parameters:
        warn(f"parameters were refused, and the former ones stayed in use: {problem}")
    result = outcome.result()
    if refused := sum(result.dead_letters.values()):
        warn(f"{refused:,} records were refused; the first is {outcome.first_refusal}")
    counts = replay.counts
    if as_json:
        print_json(
            {
                "source": asked.name,
                "read": dict(replay.read),
                "accepted": counts.accepted,
                "duplicates": counts.duplicates,
                "forgotten": counts.forgotten,
                "currency": settings.economics.currency,
                **result.document(),
            },
            compact=step,
        )
    else:
        print_result(
            result,
            settings.economics.currency,
            read=", ".join(f"{role} {count:,}" for role, count in replay.read.items()) or "nothing",
            accepted=f"{counts.accepted:,}, and {counts.duplicates:,} duplicates",
        )
    warn_of(result)


def _check_snapshot(path: Path, source: str, *, force: bool) -> None:
    """Refuse a file that cannot or should not be written, before the replay."""
    if path.is_dir() or not path.parent.is_dir():
        raise CommandError(f"--snapshot {path}: name a file in a directory that exists")
    if path.exists():
        if Path(source).exists() and path.samefile(source):
            raise CommandError(f"--snapshot {path}: that is what is replayed; name another file")
        if not force:
            raise CommandError(f"--snapshot {path}: it exists; name another file, or use --force")


async def _step_by_step(replay: MemoryReplay, source: Source, *, as_json: bool) -> None:
    """Feed one record at a time, and wait for Enter after each."""
    roles = [topic.role for topic in source.topics]
    say("Enter: the next event; q and Enter: to the end without stopping; Ctrl-C: stop")
    stopping, over = True, Event()
    try:
        async for record in source.records():
            came = await replay.feed([record])
            lines = [_document(each) for each in came if each.role != "changelog"]
            if as_json:
                print_json({**_place(roles, record), "led_to": lines}, compact=True)
            else:
                _print_step(roles, record, lines)
            if stopping:
                answer = await asyncio.to_thread(_answer, over)
                # Without anybody to press Enter it goes on by itself.
                stopping = bool(answer) and answer.strip() != "q"
    finally:
        over.set()


def _answer(over: Event) -> str:
    """Read a line; empty at the end of the input, and when the replay is over."""
    # A thread that reads cannot be stopped, and the program would wait for it.
    while sys.platform != "win32" and sys.stdin.isatty():
        if select([sys.stdin], [], [], _LOOK_SECONDS)[0]:
            break
        if over.is_set():
            return ""
    return sys.stdin.readline()


def _place(roles: Sequence[str], record: Recorded) -> dict[str, Any]:
    return {
        "topic": roles[record.topic],
        "partition": record.partition,
        "offset": record.offset,
        "time": shown_time(record.timestamp),
        "key": None if record.key is None else record.key.decode("utf-8", "backslashreplace"),
    }


def _print_step(roles: Sequence[str], record: Recorded, lines: Sequence[dict[str, Any]]) -> None:
    place = _place(roles, record)
    value = (record.value or b"").decode("utf-8", "backslashreplace")
    console = out()
    where = f"{place['topic']}[{place['partition']}]@{place['offset']}"
    console.print(f"{place['time']}  {where}  {value}", soft_wrap=True)
    for line in lines:
        console.print("    " + _words(line), soft_wrap=True)
    if not lines:
        console.print("    nothing")


def _document(came: Came) -> dict[str, Any]:
    """What came of an event, for --json."""
    key = None if came.key is None else came.key.decode("utf-8", "backslashreplace")
    if came.role == "dead_letters":
        letter = DeadLetter.from_headers(came.headers)
        name = "notice" if letter.reason in NOTICES else "dead_letter"
        return {name: letter.reason, "message": letter.message}
    if came.value is None:
        return {"customer": key, "removed": True}
    return dict(json.loads(came.value)["data"])


def _words(line: dict[str, Any]) -> str:
    if "dead_letter" in line:
        return f"refused, {line['dead_letter']}: {line['message']}"
    if "notice" in line:
        return f"notice, {line['notice']}: {line['message']}"
    if "dimension" in line:
        return (
            f"{line['customer_id']}: {line['dimension']} {line['previous'] or 'none'} -> "
            f"{line['current']}, because {line['reason']['values']}"
        )
    if "clv" in line:
        return (
            f"{line['customer_id']}: value {line['clv']:,.2f} {line['currency']}, version "
            f"{line['version']}, as of {line['as_of']}"
        )
    if "reason" in line:
        return f"{line['customer_id']}: {line['reason']}"
    return f"{line['customer']}: no value any more"
