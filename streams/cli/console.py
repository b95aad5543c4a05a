"""What is printed: results on stdout, everything else on stderr, and all of it as text.

Nothing in `streams` writes to the terminal but through this module and the log: `TextConsole` takes
every string for a line of text, wherever it stands in what is printed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.style import Style
from rich.text import Text

from streams.text import ErrorInLines, json_text, visible

WIDTH = 160


class TextConsole(Console):
    """A console on which a string is one line of text, never markup, a link or a command.

    Rich asks it for every string that it prints, those in the cells of a table too. What does not
    print is shown escaped, and a line break as well: a text of several lines is printed line by
    line.
    """

    def render_str(self, text: str, *, style: str | Style = "", **layout: Any) -> Text:
        """Return the string as text, with its alignment and overflow."""
        return Text(
            visible(text),
            style=style,
            justify=layout.get("justify"),
            overflow=layout.get("overflow"),
        )


class _Words(TextColumn):
    """A column of a progress bar, which may name a file or a customer."""

    def render(self, task: Task) -> Text:
        return Text(visible(self.text_format.format(task=task)))


err = TextConsole(stderr=True, highlight=False)


class CommandError(ErrorInLines):
    """A command cannot do what was asked; the text says why and what to do."""


def on_terminal() -> bool:
    """Whether the results go to a terminal."""
    return sys.stdout.isatty()


def out() -> TextConsole:
    """The console of the results; wide where it is no terminal, so that tables stay whole."""
    return TextConsole(highlight=False, width=None if on_terminal() else WIDTH)


def print_json(document: Any, *, compact: bool = False) -> None:
    """Write a document to stdout; compact: on one line."""
    sys.stdout.write(json_text(document, indent=None if compact else 2) + "\n")
    sys.stdout.flush()


@contextmanager
def results_to(path: Path | None) -> Iterator[TextIO]:
    """The file that results are written to, or stdout, as they are; errors: OSError."""
    if path is None:
        yield sys.stdout
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file


def say(*lines: str, style: str = "") -> None:
    """Tell the person at the terminal something that is not the result."""
    for line in lines:
        err.print(line, style=style, soft_wrap=True)


def warn(first: str, *more: str) -> None:
    """Tell the person at the terminal of something that may be wrong."""
    say(f"warning: {first}", *more, style="yellow")


def fail(first: str, *more: str) -> None:
    """Tell the person at the terminal what cannot be done."""
    say(f"error: {first}", *more, style="red")


@contextmanager
def progress_bar(title: str, note: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, and what moves it: a function of how many are done, and of how many."""
    with progress_bars() as bars:
        task = bars.add_task(title, total=None, note=note)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars on stderr; where it is no terminal, nothing is drawn."""
    with Progress(
        SpinnerColumn(),
        _Words("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Words("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=err,
        disable=not err.is_terminal,
    ) as progress:
        yield progress
