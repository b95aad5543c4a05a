"""Whom `clv fit` and `clv score` are about: customers of a file, a recording, or the topics."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import typer

from models.aggregate.record import is_customer
from models.economics import Economics
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, progress_bar
from streams.cli.record_options import topics_there
from streams.cli.replay.source import Asked, checked_file
from streams.cli.running import run
from streams.cli.sources import Source, economics_of, open_source
from streams.outcome.states import read_states
from streams.recording import BEGINNING, END, Recording
from streams.recording.format import MAGIC
from streams.replay.recorded import recorded_events
from streams.settings import Settings
from streams.topics import changelog_topic

_ALWAYS = frozenset({"currency", "timezone", "seed"})
_NOT_GIVEN: tuple[object, ...] = (None, False, [], "point")
_NAMES = {"statuses": "status"}


def open_population(
    name: str | None, settings: Settings, *, topics: bool, **options: Any
) -> Source:
    """The source of this name, a recording, or the service's topics; options: of `open_source`.

    Errors: CommandError, InputFileError, DatasetMissingError, RecordingUnusable, KafkaError.
    """
    if topics == (name is not None):
        raise typer.BadParameter("name a FILE or a DATASET, or give --topics")
    if name is not None and not _is_recording(Path(name)):
        return open_source(name, settings.economics, **options)
    what = "--topics" if name is None else f"{name}, a recording"
    given = [each for each in options if each not in _ALWAYS and options[each] not in _NOT_GIVEN]
    if given:
        listed = ", ".join(f"--{_NAMES.get(each, each).replace('_', '-')}" for each in given)
        raise CommandError(f"{listed}: for files of orders or data sets, not for {what}")
    economics = economics_of(settings.economics, options.get("currency"), options.get("timezone"))
    return _of_topics(settings, economics) if name is None else _of_recording(name, economics)


def _of_recording(name: str, economics: Economics) -> Source:
    checked = checked_file(Asked(name, BEGINNING, END))
    recording = Recording(Path(name))
    return Source(
        name,
        economics,
        partial(recorded_events, recording),
        expected=checked.total,
        now=datetime.now(UTC),
    )


def _of_topics(settings: Settings, economics: Economics) -> Source:
    changelog = changelog_topic(settings)
    states = run(_read(settings, changelog))
    if not any(map(is_customer, states)):
        raise CommandError(
            f"there are no customers in {changelog}; have workers processed any events? "
            "`clv doctor` looks closer"
        )
    now = datetime.now(UTC)
    return Source(changelog, economics, lambda: iter(()), as_of=now, now=now, states=states)


async def _read(settings: Settings, changelog: str) -> dict[bytes, bytes]:
    broker = need_broker(settings)
    (topic,) = await topics_there(
        broker, {"changelog": changelog}, "start a worker, or set CLV_APP_ID to the service's"
    )
    with progress_bar(f"Reading {changelog}", "records") as moved:
        return await read_states(broker, changelog, topic.partitions, moved)


def _is_recording(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
