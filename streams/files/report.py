"""What became of the rows of a file that do not count: refused, or left out by their status."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict


class Example(NamedTuple):
    """A refused row; where: its file and line, None if that is not known."""

    where: str | None
    message: str


class RefusedDocument(TypedDict):
    """What `--json` says of refused rows."""

    number: int
    reasons: list[dict[str, object]]


class RefusedRows:
    """Counts refused rows."""

    def __init__(self) -> None:
        self.numbers: Counter[str] = Counter()
        self.first: dict[str, Example] = {}

    def add(self, reason: str, where: str | None, message: str) -> None:
        """Count a row."""
        self.numbers[reason] += 1
        self.first.setdefault(reason, Example(where, message))

    def clear(self) -> None:
        """Forget all rows."""
        self.numbers.clear()
        self.first.clear()

    def lines(self) -> list[str]:
        """Return a line for each reason, the most frequent first."""
        return [
            f"  {number} {reason}, such as {where or 'a record'}: {message}"
            for reason, number in self.numbers.most_common()
            for where, message in [self.first[reason]]
        ]

    def document(self) -> RefusedDocument:
        """Return it for programs."""
        return {
            "number": self.numbers.total(),
            "reasons": [
                {"reason": reason, "number": number, **self.first[reason]._asdict()}
                for reason, number in self.numbers.most_common()
            ],
        }


@dataclass
class FileReport:
    """What one reading of a file left out.

    refused: rows that make no event that is accepted, passed on to be refused. uncounted: rows that
    do not count, by their status.
    """

    refused: RefusedRows = field(default_factory=RefusedRows)
    uncounted: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        """Forget everything, as the file is read anew."""
        self.refused.clear()
        self.uncounted.clear()

    def uncounted_words(self) -> str:
        """Say which rows do not count; "" if all do."""
        if not self.uncounted:
            return ""
        each = ", ".join(f"{number} {status}" for status, number in self.uncounted.most_common())
        return f"{self.uncounted.total()} rows do not count, by their status: {each}"
