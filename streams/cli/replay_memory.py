"""A replay in memory: at once, at its own pace, or step by step."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from select import select
from threading import Event
from typing import Any

from models.contracts.dead_letters import DeadLetter
from streams.cli.console import out, print_json, say, warn
from streams.cli.digest import print_result, warn_of
from streams.cli.record import shown_time
from streams.cli.replay_source import Asked, opened, shown
from streams.recording import Pace, Recorded, Results, Source
from streams.recording.compare import Valued
from streams.recording.kept import keep
from streams.recording.memory import Came, MemoryReplay, in_memory
from streams.settings import Settings

_LOOK_SECONDS = 0.2


async def replay_in_memory(
    settings: Settings,
    asked: Asked,
    pace: Pace,
    *,
    keep_in: Path | None = None,
    step: bool,
    as_json: bool,
) -> None:
    """Replay to a service in memory, and print what came of it.

    keep_in: a file to keep it in, too.
    """
    results = Results() if keep_in is None else Valued()
    async with (
        opened(settings, asked) as source,
        in_memory(settings, source, [results]) as replay,
    ):
        if step:
            await _step_by_step(replay, source, as_json=as_json)
        else:
            with shown(source, f"Replaying {asked.name}") as moved:
                await replay.run(pace, moved)
    if keep_in is not None and isinstance(results, Valued):
        currency = settings.economics.currency
        keep(keep_in, results, source=asked.name, currency=currency, replayed=replay.input)
    for problem in replay.refused_parameters:
        warn(f"parameters were refused, and the former ones stayed in use: {problem}")
    result = results.result()
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


async def _step_by_step(replay: MemoryReplay, source: Source, *, as_json: bool) -> None:
    """Feed one record after the other, and wait for Enter between them."""
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
    """A line that somebody enters; empty at the end of the input, and when all is over."""
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
        return {"dead_letter": letter.reason, "message": letter.message}
    if came.value is None:
        return {"customer": key, "removed": True}
    return dict(json.loads(came.value)["data"])


def _words(line: dict[str, Any]) -> str:
    if "dead_letter" in line:
        return f"refused, {line['dead_letter']}: {line['message']}"
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
