"""Workers that ended: by whom they were ended, and what they said last."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

LINE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a worker's process.

    status: negative for a signal. at: monotonic seconds. asked: whether the fault brought it, by a
    signal or a trap. words: the last error in its log, if nobody asked.
    """

    slot: int
    status: int
    at: float
    asked: bool = True
    words: str = ""


def last_words(log: str) -> str:
    """The last line of a log that tells of an error; if none does, its last line.

    What the command line says when it ends comes before what was logged: it is the cause.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    for tells in (_is_farewell, _is_logged_error):
        found = next((line for line in reversed(lines) if tells(line)), None)
        if found is not None:
            return _text(found)[:LINE_CHARACTERS]
    return _text(lines[-1])[:LINE_CHARACTERS] if lines else "it said nothing"


def told(ends: Iterable[Ended]) -> list[str]:
    """The ends that nobody asked for, one line for each kind: how often, status, last words."""
    kinds: Counter[tuple[int, str]] = Counter()
    examples: dict[tuple[int, str], str] = {}
    for end in ends:
        if not end.asked:
            kind = end.status, _without_particulars(end.words)
            kinds[kind] += 1
            examples[kind] = end.words
    return [f"{n} x status {kind[0]}: {examples[kind]}" for kind, n in kinds.most_common()]


def _is_farewell(line: str) -> bool:
    return line.startswith(("error: ", "Timeout ("))


def _is_logged_error(line: str) -> bool:
    return _logged(line).get("level") in ("error", "critical")


def _logged(line: str) -> dict[str, object]:
    try:
        document = json.loads(line)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _text(line: str) -> str:
    return str(_logged(line).get("event", line))


def _without_particulars(words: str) -> str:
    """The same for errors that differ in numbers only: ports, offsets, times, objects."""
    return re.sub(r"0x[0-9a-f]+|\d+", "#", words)
