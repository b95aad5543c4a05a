"""Exported letters: one JSON document a line, as `full` makes it, and read back byte for byte."""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Annotated, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from models.contracts.dead_letters import DeadLetter
from models.errors import ClvError
from streams.bounded import GZIP, TooLarge, lines
from streams.dead_letters.documents import full
from streams.dead_letters.letter import UNKNOWN, Letter
from streams.dead_letters.reading import Entry
from streams.dead_letters.selection import split_where
from streams.private import new_private
from streams.text import json_text

NAMES = (".jsonl", ".jsonl.gz")
LONGEST_LINE = 32 * 1024 * 1024
"""Bytes: a letter has 4 MiB at most, which JSON can make six times as long."""

MOST_HEADERS = 100_000
"""Headers of a letter: a worker keeps 10,000."""

_EPOCH = datetime.fromtimestamp(0, UTC)
_AGAIN = "copy it once more from where it was written, or export again"


class ExportUnusable(ClvError):
    """A file of letters cannot be used; the text says file, line, and what to do."""

    def __init__(self, path: Path, line: int | None, problem: str) -> None:
        where = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}")


class ExportedLine(NamedTuple):
    """A letter of a file, and its line, from 1; retried: whether it was when it was exported."""

    number: int
    entry: Entry


class _Bytes(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = None
    base64: str | None = None

    def content(self) -> bytes:
        if (self.text is None) == (self.base64 is None):
            raise ValueError('neither {"text": …} nor {"base64": …}')
        if self.text is not None:
            return self.text.encode()
        try:
            return base64.b64decode(self.base64 or "", validate=True)
        except binascii.Error as error:
            raise ValueError(f"its base64 cannot be read: {error}") from error


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    value: _Bytes | None


class _Document(BaseModel):
    """The fields of a line from which the letter is restored; the others follow from them."""

    model_config = ConfigDict(strict=True)

    letter: str
    time: AwareDatetime
    reason: str
    field: str | None
    message: str
    came_from: Annotated[str, Field(alias="from")]
    retried: bool
    cut_from: Annotated[int, Field(ge=0)] | None
    cut: str | None = None
    key: _Bytes | None
    value: _Bytes | None
    headers: Annotated[list[_Header], Field(max_length=MOST_HEADERS)]

    def entry(self) -> Entry:
        """The letter; raises ValueError."""
        topic, partition, offset = split_where(self.letter)
        letter = Letter(
            topic, partition, offset, (self.time - _EPOCH) // timedelta(milliseconds=1),
            _content(self.key), _content(self.value),
            [(header.name, _content(header.value)) for header in self.headers],
            self._refused(), self.cut_from, self.cut,
        )  # fmt: skip
        return Entry(letter, self.retried)

    def _refused(self) -> DeadLetter | None:
        if self.came_from == UNKNOWN:
            return None
        topic, partition, offset = split_where(self.came_from)
        return DeadLetter(
            reason=self.reason, message=self.message, field=self.field or "",
            topic=topic, partition=partition, offset=offset,
        )  # fmt: skip


@contextmanager
def writing(path: Path) -> Iterator[IO[str]]:
    """A file to write lines to, which is there once all of them are; ExportUnusable, OSError."""
    if not path.name.endswith(NAMES):
        raise ExportUnusable(path, None, f"name a file that ends in {' or '.join(NAMES)}")
    draft = path.with_name(f".{path.name}.part")
    packed = path.name.endswith(".gz")
    try:
        with (
            new_private(draft, "wb") as stored,
            gzip.open(stored, "wb") if packed else stored as content,
            TextIOWrapper(content, encoding="utf-8") as file,
        ):
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def line_of(entry: Entry) -> str:
    """A letter as a line."""
    return json_text(full(entry)) + "\n"


def read_export(path: Path) -> Iterator[ExportedLine]:
    """The letters of a file; raises ExportUnusable at the first line that is none, and OSError."""
    for number, line in _lines(path):
        if line.strip():
            yield ExportedLine(number, _read_line(path, number, line))


def _read_line(path: Path, number: int, line: bytes) -> Entry:
    try:
        document = _Document.model_validate_json(line)
        return document.entry()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        if first["type"] != "json_invalid":
            field = ".".join(map(str, first["loc"])) or "the line"
            problem = f"is no exported letter: {field}: {first['msg']}; {_AGAIN}"
        elif line.endswith(b"\n"):
            problem = f"is damaged: {first['msg']}; {_AGAIN}"
        else:
            problem = f"is cut off, and what came after it is missing; {_AGAIN}"
    except ValueError as error:
        problem = f"is no exported letter: {error}; {_AGAIN}"
    raise ExportUnusable(path, number, problem)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        for number, line in enumerate(lines(path, LONGEST_LINE, packed=_packed(path)), 1):
            yield number, line
    except TooLarge as error:
        raise ExportUnusable(path, number + 1, f"is more than a letter: {error}") from error
    except EOFError:
        problem = f"the file ends after it, in the middle of its gzip stream; {_AGAIN}"
        raise ExportUnusable(path, number, problem) from None
    except (gzip.BadGzipFile, zlib.error) as error:
        problem = f"the file is damaged after it: {error}; {_AGAIN}"
        raise ExportUnusable(path, number, problem) from error


def _packed(path: Path) -> bool:
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    if path.name.endswith(".gz") and not packed:
        raise ExportUnusable(path, None, f"is no gzip file; {_AGAIN}")
    return packed


def _content(held: _Bytes | None) -> bytes | None:
    return None if held is None else held.content()
