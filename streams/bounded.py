"""Read files from outside with limits on their size.

A gzip file may unpack to a thousand times its size, and a line may never end. The limits are in
proportion to the file's size, and constant for what has to be in memory at once.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final, cast

from models.errors import ClvError

GZIP: Final = b"\x1f\x8b"

UNPACKED_AT_LEAST: Final = 16 * 1024 * 1024
"""Bytes that every file may unpack to."""

UNPACKED_TIMES: Final = 100
"""How many times its own size a larger file may unpack to. Orders, dead letters and values shrink
5 to 40 times; gzip can reach a thousand."""


class TooLarge(ClvError):
    """A file exceeds a limit; the text says which, and what is allowed."""


def most_unpacked(stored: int) -> int:
    """Return how many bytes, or rows, a file of so many bytes may contain."""
    return max(UNPACKED_AT_LEAST, UNPACKED_TIMES * stored)


def lines(path: Path, longest: int, *, packed: bool) -> Iterator[bytes]:
    """Yield the lines of a file, gzipped or not, each with its line break.

    longest: limit of a line in bytes. Errors: TooLarge; OSError, EOFError and zlib.error of `gzip`.
    """
    room = most_unpacked(path.stat().st_size)
    with opened(path, packed=packed) as file:
        while line := file.readline(longest + 1):
            if len(line) > longest:
                raise TooLarge(f"a line has more than {longest:,} bytes, which are the most")
            room -= len(line)
            if packed and room < 0:
                raise TooLarge(
                    f"it unpacks to more than {UNPACKED_TIMES} times its size; unpack it yourself, "
                    "if you know what it holds"
                )
            yield line


def opened(path: Path, *, packed: bool) -> IO[bytes]:
    """Open a file to read, unpacking it if it is packed."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if packed else path.open("rb")


def read_whole(path: Path, most: int) -> bytes:
    """Return the content of a small file. Errors: TooLarge, OSError."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise TooLarge(f"it has more than {most:,} bytes, which are the most")
    return content
