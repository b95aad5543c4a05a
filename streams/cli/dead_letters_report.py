"""What `clv dead-letters` prints for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from streams.cli.console import out, say
from streams.dead_letters.documents import printable
from streams.dead_letters.retry import Outcome, Sent
from streams.text import json_text

TOLD = 20
"""Letters that a retry names one by one; the others are counted."""

_COLUMN = 40

_NOTICE = "(notice)"

EXCERPT = 2_000
"""Characters that are shown of a value that is not JSON."""


class Told:
    """What became of the letters of a retry: counts, and the first ones by name."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.named: list[Sent] = []

    def add(self, sent: Sequence[Sent]) -> None:
        """Count these, and keep the first of each outcome."""
        for each in sent:
            self.outcomes[each.outcome] += 1
            if self.outcomes[each.outcome] <= TOLD:
                self.named.append(each)

    def line(self) -> str:
        """The counts in words."""
        counted = ", ".join(f"{number} {what.value}" for what, number in self.outcomes.items())
        return counted or "no letters to send again"

    def document(self) -> dict[str, Any]:
        """Counts of all, and the first ones."""
        return {
            "outcomes": {outcome.value: number for outcome, number in self.outcomes.items()},
            "letters": [
                {
                    "id": each.letter.id,
                    "outcome": each.outcome.value,
                    "why": each.why,
                    "to": each.to or None,
                }
                for each in self.named
            ],
        }

    def print(self) -> None:
        """Print the first ones, and the counts."""
        console = out()
        for each in self.named:
            to = f" to {each.to}" if each.to else ""
            why = printable(each.why)
            console.print(
                f"{each.letter.id}  {each.letter.reason}  {each.outcome.value}{to}: {why}",
                soft_wrap=True,
            )
        if self.outcomes.total() > len(self.named):
            console.print(f"… and {self.outcomes.total() - len(self.named)} more")
        say(self.line())


def _content(content: dict[str, str] | None) -> str:
    if content is None:
        return "none"
    text = content.get("text")
    return printable(text if text is not None else f"base64 {content['base64']}", EXCERPT)


def counts_table(document: dict[str, Any]) -> Table:
    """Letters and notices by reason."""
    notes = [f"{document['retried']} sent again"] if document["retried"] else []
    if document["written_twice"]:
        notes.append(f"{document['written_twice']} written twice, counted once")
    title = f"{document['letters_found']} dead letters"
    if notices := document["notices"]:
        title += f", {sum(notices.values())} notices"
    table = Table(title=title, caption="; ".join(notes) or None)
    table.add_column("reason")
    table.add_column("letters", justify="right")
    for reason, number in document["reasons"].items():
        table.add_row(printable(reason), f"{number:,}")
    for reason, number in notices.items():
        table.add_row(f"{printable(reason)} {_NOTICE}", f"{number:,}")
    return table


def letter_lines(letters: Sequence[dict[str, Any]], width: int) -> list[str]:
    """One line for each letter, cut at a width."""
    rows = [
        (
            each["id"] + (" (sent again)" if each["retried"] else ""),
            each["time"][:19],
            printable(each["reason"]) + (f" {_NOTICE}" if each["notice"] else ""),
            printable(each["customer"], _COLUMN),
            printable(" ".join(filter(None, (each["type"], each["event_id"]))) or None, _COLUMN),
            printable(each["message"]),
        )
        for each in letters
    ]
    titles = ("id", "when (UTC)", "reason", "customer", "event", "what was wrong")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)][:-1]
    lines = []
    for row in (titles, *rows):
        cells = [text.ljust(size) for text, size in zip(row, widths, strict=False)]
        line = "  ".join((*cells, row[-1]))
        lines.append(line if len(line) <= width else f"{line[: width - 1]}…")
    return lines


def print_letter(document: dict[str, Any], event: Any) -> None:
    """Print everything about a letter; event: its value, if it is JSON."""
    console = out()
    for name in (
        "letter", "time", "from", "reason", "field", "message", "customer", "type", "event_id",
        "retried", "now",
    ):  # fmt: skip
        said = {True: "yes", False: "no"}.get(document[name], document[name])
        if name == "reason" and document["notice"]:
            said = f"{said} {_NOTICE}"
        console.print(f"{name:9} {printable(said)}", soft_wrap=True)
    for name in ("retried_from", "corrected", "refused_again_as"):
        if document[name]:
            told = ", ".join(map(printable, document[name]))
            console.print(f"{name.replace('_', ' ')}: {told}", soft_wrap=True)
    if document["cut_from"] is not None:
        left = document["cut"] or f"only the beginning is left of {document['cut_from']} bytes"
        console.print(printable(left))
    console.print(f"key       {_content(document['key'])}", soft_wrap=True)
    for header in document["headers"]:
        text = f"header    {printable(header['name'])}: {_content(header['value'])}"
        console.print(text, soft_wrap=True)
    console.print("value")
    if event is None:
        console.print(_content(document["value"]), soft_wrap=True)
    else:
        for line in json_text(event, indent=2).split("\n"):
            console.print(line, soft_wrap=True)
