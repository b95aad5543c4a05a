"""Where in a TOML file each key and value begins, for errors that name the line."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from contextlib import suppress
from typing import Final

from models.errors import ClvError

Place = tuple[str | int, ...]
"""Keys, and indices of arrays, from the top of the document."""

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRING: Final = re.compile(
    "|".join(
        (r'"""(?:\\.|[^\\])*?"{3,5}', r"'''.*?'{3,5}", r'"(?:\\.|[^"\\])*"', r"'[^']*'"),
    ),
    re.DOTALL,
)
_SPACE: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


def places(text: str) -> dict[Place, int]:
    """Return the line, from 1, on which each key, table and array element of a document begins.

    text: valid TOML; what is not gives places of its valid beginning at most.
    """
    reader = _Reader(text)
    with suppress(_End):
        reader.document()
    return reader.found


class _End(ClvError):
    """The text ends, or is no TOML."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.found: dict[Place, int] = {}
        self._tables: Counter[Place] = Counter()

    def document(self) -> None:
        table: Place = ()
        while True:
            self._skip()
            if self.at >= len(self.text):
                return
            start = self.at
            if self._take("[["):
                names = self._key()
                parent = self._resolved(names[:-1])
                array = (*parent, names[-1])
                table = (*array, self._tables[array])
                self._tables[array] += 1
                self._note(array, start)
                self._need("]]")
            elif self._take("["):
                table = self._resolved(self._key())
                self._need("]")
            else:
                self._pair(table)
                continue
            self._note(table, start)

    def _resolved(self, names: list[str]) -> Place:
        """Return the place of a table's name: within an array, the last element of it."""
        place: Place = ()
        for name in names:
            place = (*place, name)
            if place in self._tables:
                place = (*place, self._tables[place] - 1)
        return place

    def _pair(self, table: Place) -> None:
        start = self.at
        place: Place = table
        for name in self._key():
            place = (*place, name)
            self._note(place, start)
        self._need("=")
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip()
        if self._take("["):
            self._elements(place)
        elif self._take("{"):
            self._skip()
            while not self._take("}"):
                self._pair(place)
                self._skip()
                self._take(",")
                self._skip()
        elif string := _STRING.match(self.text, self.at):
            self.at = string.end()
        elif scalar := _SCALAR.match(self.text, self.at):
            self.at = scalar.end()
        else:
            raise _End

    def _elements(self, place: Place) -> None:
        number = 0
        self._skip()
        while not self._take("]"):
            element = (*place, number)
            self._note(element, self.at)
            self._value(element)
            number += 1
            self._skip()
            self._take(",")
            self._skip()

    def _key(self) -> list[str]:
        names = []
        while True:
            self._skip()
            if string := _STRING.match(self.text, self.at):
                names.append(str(tomllib.loads(f"key = {string[0]}")["key"]))
                self.at = string.end()
            elif bare := _BARE.match(self.text, self.at):
                names.append(bare[0])
                self.at = bare.end()
            else:
                raise _End
            self._skip()
            if not self._take("."):
                return names

    def _note(self, place: Place, start: int) -> None:
        self.found.setdefault(place, self.text.count("\n", 0, start) + 1)

    def _skip(self) -> None:
        space = _SPACE.match(self.text, self.at)
        self.at = self.at if space is None else space.end()

    def _take(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def _need(self, sign: str) -> None:
        self._skip()
        if not self._take(sign):
            raise _End
