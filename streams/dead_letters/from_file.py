"""Letters of an exported file, each compared with the topic before any of them is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Self

from streams.dead_letters.exported import ExportUnusable, read_export
from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import DeadLetters, Entry, Place

_ELSEWHERE = (
    "the file is of another broker, or of a topic that was deleted since; have the publishers send "
    "these events again"
)


class _Known(NamedTuple):
    line: int
    content: int


class LettersFromFile:
    """The letters of a file that `clv dead-letters export` wrote; `checked` makes it.

    Letters that the topic still holds must equal those of the file, so that a note about a letter
    is about that letter. Those that it has deleted are taken from the file.
    """

    def __init__(self, path: Path, letters: DeadLetters) -> None:
        self._path = path
        self._letters = letters
        self._known: dict[Place, _Known] = {}

    @classmethod
    async def checked(cls, path: Path, letters: DeadLetters) -> Self:
        """Read all of a file and compare it with the topic; raises ExportUnusable, OSError."""
        file = cls(path, letters)
        await file._check()
        return file

    async def _check(self) -> None:
        for line, entry in read_export(self._path):
            letter = entry.letter
            self._check_topic(line, letter)
            known = self._known.setdefault(letter.place, _Known(line, letter.content()))
            if known.content != letter.content():
                problem = f"differs from line {known.line}, which is the same letter {letter.id}"
                raise self._unusable(line, f"{problem}; export again")
        held = await self._letters.held(self._known)
        for place, known in self._known.items():
            where = f"{self._letters.topic}[{place[0]}]@{place[1]}"
            if place in held and held[place] is None:
                raise self._unusable(known.line, f"there is no letter at {where}; {_ELSEWHERE}")
            if place not in held and not self._letters.ends_after(place):
                raise self._unusable(known.line, f"the topic ends before {where}; {_ELSEWHERE}")
            if held.get(place, known.content) != known.content:
                raise self._unusable(
                    known.line,
                    f"another letter is at {where}: if the line was edited, export again and use "
                    f"--set; otherwise {_ELSEWHERE}",
                )

    async def entries(self) -> AsyncIterator[Entry]:
        """The letters in the order of the file, each once."""
        sent = await self._letters.sent_again()
        for line, entry in read_export(self._path):
            letter = entry.letter
            if self._known.get(letter.place, _Known(0, 0)).content != letter.content():
                raise self._unusable(line, "the file was changed while it was read; start again")
            if self._known[letter.place].line == line:
                retried = letter.offset in sent.get(letter.partition, ())
                yield Entry(letter, entry.retried or retried)

    def _check_topic(self, line: int, letter: Letter) -> None:
        topic = self._letters.topic
        if letter.topic != topic:
            raise self._unusable(
                line,
                f"its letter is from the topic {letter.topic}, and dead letters are in {topic} "
                "here: set CLV_TOPICS__DEAD_LETTERS and CLV_BROKER as where it was exported",
            )
        if letter.partition >= self._letters.partitions:
            count = self._letters.partitions
            raise self._unusable(
                line, f"its letter is {letter.id}, and {topic} has {count} partitions; {_ELSEWHERE}"
            )

    def _unusable(self, line: int, problem: str) -> ExportUnusable:
        return ExportUnusable(self._path, line, problem)
