"""Golden files: the outcome of a test as it was last accepted, in a file beside the test."""

from __future__ import annotations

import re
from collections.abc import Coroutine, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import ClvError
from streams.outcome.differences import difference
from streams.outcome.facts import from_lines, to_lines

if TYPE_CHECKING:
    from streams.outcome.outcome import Outcome
    from streams.testing.service import Service

UPDATE = "--update-golden"
FOLDER = "golden"
SUFFIX = ".jsonl"


class GoldenFailed(ClvError, AssertionError):
    """An outcome differs from its golden file, or the file is missing; the text says what to do."""


def folder_of(module: Path) -> Path:
    """Where the golden files of a test module are."""
    return module.parent / FOLDER / module.stem


class Golden:
    """Compares outcomes of one test with files; the fixture `golden`.

    node: the test's id. used: the files that this test compared or wrote. written: those it wrote,
    with `--update-golden`. not_awaited: calls that were not awaited. this_run: the texts that any
    test wrote in this run.
    """

    def __init__(
        self, module: Path, node: str, *, update: bool, this_run: MutableMapping[Path, str]
    ) -> None:
        self.used: list[Path] = []
        self.written: list[Path] = []
        self.not_awaited = 0
        self._folder = folder_of(module)
        self._module = module
        self._node = node
        self._update = update
        self._this_run = this_run

    def __call__(self, service: Service, name: str | None = None) -> Coroutine[Any, Any, None]:
        """Compare the outcome of a topology with its golden file, once it has settled; await it.

        name: of the file; by default the test's. Errors: GoldenFailed.
        """
        self.not_awaited += 1
        return self._compare(service, name)

    async def _compare(self, service: Service, name: str | None) -> None:
        self.not_awaited -= 1
        from streams.testing.outcomes import outcome_of  # noqa: PLC0415 - it takes a second

        __tracebackhide__ = True
        self.check(await outcome_of(service), name)

    def check(self, outcome: Outcome, name: str | None = None) -> None:
        """Compare any outcome, such as that of a replay."""
        __tracebackhide__ = True
        path = self._folder / f"{_file_name(name or self._node.partition('::')[2])}{SUFFIX}"
        self.used.append(path)
        facts = outcome.facts()
        text = "".join(f"{line}\n" for line in to_lines(facts))
        if self._update:
            self._write(path, text)
            return
        if not path.is_file():
            raise GoldenFailed(f"there is no golden file {self._shown(path)}. {self._how('make')}")
        try:
            golden = from_lines(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise GoldenFailed(
                f"golden file {self._shown(path)}: {error}. {self._how('write')}"
            ) from error
        if differs := difference(golden, facts):
            raise GoldenFailed(
                f"not what is in the golden file {self._shown(path)}\n{differs}\n"
                f"{self._how('update')}"
            )

    def _write(self, path: Path, text: str) -> None:
        __tracebackhide__ = True
        before = self._this_run.setdefault(path, text)
        if before != text:
            raise GoldenFailed(
                f"golden file {self._shown(path)} was written in this run already, and not the "
                "same: give each outcome a name of its own"
            )
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
        self.written.append(path)

    def _shown(self, path: Path) -> str:
        return path.relative_to(self._module.parent).as_posix()

    def _how(self, to_do: str) -> str:
        return (
            f"If what it comes to is right, {to_do} the file:\n"
            f"    pytest {UPDATE} {self._node.partition('[')[0]}"
        )


def _file_name(name: str) -> str:
    """A test's name, or a given one, as the name of a file: letters, digits, and - _ . between."""
    made = re.sub(r"[^\w.-]+", "-", name).strip("-.")
    if not made:
        raise ValueError(f"{name!r} makes no name of a file: give one with letters")
    return made
