"""`clv dead-letters`: what was refused, why, and sending it again once that is put right."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from models.contracts import Reason
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, out, print_json, say
from streams.cli.dead_letters_report import Told, counts_table, letter_lines, print_letter
from streams.cli.options import AsJson, group
from streams.cli.running import run
from streams.cli.sources import parse_begin
from streams.dead_letters.corrections import Correction
from streams.dead_letters.documents import full, summary
from streams.dead_letters.exported import ExportUnusable, line_of, writing
from streams.dead_letters.from_file import LettersFromFile
from streams.dead_letters.letter import UNKNOWN, glance
from streams.dead_letters.reading import DeadLetters, Entry
from streams.dead_letters.retry import Outcome, Retry, send_chosen
from streams.dead_letters.selection import Selection, parse_place
from streams.dead_letters.verdict import judge
from streams.kafka.writing import record_writer
from streams.settings import Settings

dead_letters = group("What was refused, why, and sending it again.")

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


@dead_letters.command("list")
def list_letters(
    *,
    reason: OfReason = None,
    topic: OfTopic = None,
    customer: OfCustomer = None,
    since: Since = None,
    number: Annotated[int, typer.Option("-n", "--number", min=0, help="How many to show.")] = 20,
    everything: Annotated[bool, typer.Option("--all", help="Also those sent again.")] = False,
    as_json: AsJson = False,
) -> None:
    """Count what was refused by reason, and show the newest, newest last."""
    settings = load_settings()
    chosen = selection(settings, reason=reason, topic=topic, customer=customer, since=since)
    document = run(found_letters(settings, chosen, number, everything))
    if as_json:
        print_json(document)
        return
    out().print(counts_table(document))
    if document["letters"]:
        console = out()
        for line in letter_lines(document["letters"], console.width):
            console.print(line, soft_wrap=True)


@dead_letters.command()
def show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="partition/offset, from the list.")],
    as_json: AsJson = False,
) -> None:
    """Show everything about one letter, and what would happen if it was sent again now."""
    settings = load_settings()
    document, event = run(letter_document(settings, parse_id(letter, settings)))
    if as_json:
        print_json({**document, "event": event})
        return
    print_letter(document, event)


@dead_letters.command()
def retry(
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="partition/offset, from the list.")
    ] = None,
    *,
    reason: OfReason = None,
    topic: OfTopic = None,
    customer: OfCustomer = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not sent yet.")] = False,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Letters of a file that export wrote."),
    ] = None,
    corrections: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=TEXT",
            help="Correct a field of the event first; FIELD:=JSON for what is no text. Repeat.",
        ),
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also what would be refused again, or was sent before."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Send letters again, to where they came from, if they would be accepted now.

    An event that was sent already counts once.
    """
    settings = load_settings()
    chosen = selection(
        settings, reason=reason, topic=topic, customer=customer, since=since, ids=letters or ()
    )
    if chosen == Selection() and not everything and source is None:
        raise CommandError(
            "say which: IDs, --reason, --topic, --customer, --since, --from, or --all"
        )
    try:
        wanted = [Correction.parse(text) for text in corrections or ()]
    except ValueError as error:
        raise CommandError(f"--set {error}") from error
    told = run(send_again(settings, chosen, wanted, dry=dry, force=force, source=source))
    if as_json:
        print_json(told.document())
    else:
        told.print()
    if told.outcomes[Outcome.IMPOSSIBLE] or told.outcomes[Outcome.REFUSED]:
        raise typer.Exit(1)


@dead_letters.command()
def export(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="To write: .jsonl or .jsonl.gz.")],
    *,
    reason: OfReason = None,
    topic: OfTopic = None,
    customer: OfCustomer = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="Also those sent again.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write letters to a file, one JSON document a line, with everything that is known of them."""
    settings = load_settings()
    chosen = selection(settings, reason=reason, topic=topic, customer=customer, since=since)
    if path.exists() and not force:
        raise CommandError(f"{path} exists; name another file, or replace it by --force")
    number = run(export_letters(settings, chosen, path, everything))
    if as_json:
        print_json({"file": str(path), "letters": number}, compact=True)
    else:
        say(f"{number} letters written to {path}")


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
    moment = None
    if since is not None:
        moment = parse_begin(since, settings.economics, "--since", such_as="2026-01-03")
    return Selection(reason, topic, customer, moment, places)


def parse_id(text: str, settings: Settings) -> tuple[int, int]:
    """Partition and offset of a letter; raises CommandError."""
    try:
        return parse_place(text, settings.topics.dead_letters)
    except ValueError as error:
        raise CommandError(str(error)) from error


async def found_letters(
    settings: Settings, chosen: Selection, number: int, everything: bool
) -> dict[str, Any]:
    """Counts of letters and notices by reason, and the newest of both."""
    letters, _ = await _open(settings)
    counts: Counter[str] = Counter()
    notices: Counter[str] = Counter()
    retried = 0
    newest: list[tuple[int, int, int, Entry]] = []
    async for entry in letters.entries():
        letter = entry.letter
        if letter not in chosen:
            continue
        if entry.retried:
            retried += 1
            if not everything:
                continue
        (notices if letter.is_notice else counts)[letter.reason] += 1
        heapq.heappush(newest, (letter.timestamp, *letter.place, entry))
        if len(newest) > number:
            heapq.heappop(newest)
    return {
        "reasons": dict(counts.most_common()),
        "letters_found": counts.total(),
        "notices": dict(notices.most_common()),
        "retried": retried,
        "written_twice": letters.repeats,
        "letters": [summary(entry) for *_, entry in sorted(newest)],
    }


async def letter_document(settings: Settings, place: tuple[int, int]) -> tuple[dict[str, Any], Any]:
    """Everything about one letter, and its value if it is JSON."""
    letters, _ = await _open(settings)
    found: Entry | None = None
    later = []
    where = f"{letters.topic}[{place[0]}]@{place[1]}"
    async for entry in letters.entries({place}):
        if entry.letter.place == place:
            found = entry
        elif entry.letter.retried_from[-1:] == [where]:
            later.append(entry.letter.id)
    if found is None:
        raise CommandError(
            f"there is no dead letter {where}; `clv dead-letters list` has their ids"
        )
    letter = found.letter
    verdict = judge(letter, letter.value, settings, time.time_ns() // 1_000_000)
    document = {**full(found), "refused_again_as": later, "now": str(verdict)}
    return document, glance(letter).document


async def send_again(
    settings: Settings,
    chosen: Selection,
    corrections: Sequence[Correction],
    *,
    dry: bool,
    force: bool,
    source: Path | None = None,
) -> Told:
    """Send letters again, those of a file or of the topic; what became of them."""
    letters, counts = await _open(settings)
    told = Told()
    try:
        file = None if source is None else await LettersFromFile.checked(source, letters)
        found = letters.entries(chosen.places) if file is None else file.entries()
        asked_for = bool(chosen.places) or file is not None
        async with record_writer(need_broker(settings)) as writer:
            retry = Retry(writer, settings, counts, corrections, force=force, dry=dry)
            missing = await send_chosen(retry, found, chosen, told.add, asked_for=asked_for)
    except ExportUnusable as error:
        so_far = told.line() if told.outcomes else "nothing was sent"
        raise CommandError(f"{error}; {so_far}") from error
    if missing:
        named = ", ".join(f"{partition}/{offset}" for partition, offset in sorted(missing))
        raise CommandError(f"no such letters, or not as asked for: {named}; {told.line()}")
    return told


async def export_letters(
    settings: Settings, chosen: Selection, path: Path, everything: bool
) -> int:
    """Write letters to a file; returns how many."""
    letters, _ = await _open(settings)
    number = 0
    with writing(path) as file:
        async for entry in letters.entries():
            if entry.letter in chosen and (everything or not entry.retried):
                file.write(line_of(entry))
                number += 1
    return number


async def _open(settings: Settings) -> tuple[DeadLetters, dict[str, int]]:
    letters = DeadLetters(need_broker(settings), settings.topics.dead_letters)
    return letters, await letters.prepare()
