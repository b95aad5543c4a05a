"""What is printed: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

WIDTH = 160

err = Console(stderr=True, highlight=False)


class CommandError(Exception):
    """A command cannot do what was asked; the text says why and what to do."""


def out() -> Console:
    """The console of the results; wide where it is no terminal, so that tables stay whole."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def print_json(document: Any, *, compact: bool = False) -> None:
    """Write a document to stdout; compact: on one line."""
    indent = None if compact else 2
    text = json.dumps(document, ensure_ascii=False, indent=indent, default=str, allow_nan=False)
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """Tell the person at the terminal something that is not the result."""
    err.print(text, markup=False, soft_wrap=True)


def warn(text: str) -> None:
    """Tell the person at the terminal of something that may be wrong."""
    err.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr; where it is no terminal, nothing is drawn."""
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as progress:
        yield progress
