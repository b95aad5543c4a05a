"""Opening the source of a replay."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.economics import Economics
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, progress_bar, progress_bars, warn
from streams.cli.record_options import (
    INPUTS,
    ROLES,
    parse_roles,
    parse_slice,
    topics_at_broker,
)
from streams.cli.sources import open_source
from streams.datasets import DATASETS
from streams.files.errors import InputFileError
from streams.files.rows import file_format
from streams.recording import BEGINNING, Bound, RecordedTopic, Recording, Span, live_slice, some_of
from streams.recording.format import MAGIC
from streams.replay.orders import FromOrders
from streams.replay.source import FromFile, FromTopics, Source
from streams.settings import Settings

_WORDS = frozenset({"all", "inputs", *ROLES})


@dataclass(frozen=True, slots=True)
class Asked:
    """The source that the command line names, and the slice of it."""

    name: str
    since: Bound
    until: Bound

    @classmethod
    def of(cls, name: str, since: str | None, until: str | None, economics: Economics) -> Asked:
        """What is named on the command line; CommandError."""
        return cls(name, *parse_slice(since, until, economics))

    @property
    def is_topics(self) -> bool:
        """Whether topics at the broker are meant."""
        return set(self.name.split(",")) <= _WORDS and not Path(self.name).is_file()

    @property
    def is_orders(self) -> bool:
        """Whether a data set, or a file of orders, is meant."""
        return self.name in DATASETS or _is_file_of_orders(Path(self.name))


@asynccontextmanager
async def opened(settings: Settings, asked: Asked) -> AsyncIterator[Source]:
    """Open the source after verifying it; warn of what is missing from it.

    Errors: CommandError, RecordingUnusable, OSError, KafkaError.
    """
    if asked.is_topics:
        topics = await topics_at_broker(settings, parse_roles(asked.name))
        broker = need_broker(settings)
        async with live_slice(broker, topics, asked.since, asked.until) as live:
            _warn_of_beginning(asked.since.words, topics, live.spans)
            source = FromTopics(live)
            yield source
            warn_of_source(asked, source)
            for waiting in live.waiting:
                warn(f"{waiting}: what follows is in an open transaction, and was not replayed")
    else:
        stored = repeatable(asked, settings.economics, settings.partitions)
        yield stored
        warn_of_source(asked, stored)


def warn_of_source(asked: Asked, source: Source) -> None:
    """Warn, after reading, of a source that was empty or not sorted by time."""
    if not source.given:
        warn(
            f"nothing was replayed: {asked.name} has no records from {asked.since.words} to "
            f"{asked.until.words}"
        )
    if isinstance(source, FromOrders) and source.out_of_order:
        warn(
            f"{asked.name} is not sorted by time: {source.out_of_order:,} events are earlier than "
            "the one before them, and were replayed in the order of the file; sort it for changes "
            "of segment as they would have been told"
        )


def repeatable(asked: Asked, economics: Economics, partitions: int) -> FromFile | FromOrders:
    """A source that can be read twice: a recording, a data set, or a file of orders.

    partitions: of sources that were never published. Errors: CommandError, RecordingUnusable,
    InputFileError, DatasetMissingError, OSError.
    """
    if not asked.is_orders:
        return checked_file(asked)
    orders = open_source(asked.name, economics)
    if orders.economics != economics:
        raise CommandError(
            f"{asked.name} is in {orders.economics.currency}, and the shop's currency is "
            f"{economics.currency}: set CLV_ECONOMICS__CURRENCY={orders.economics.currency}, or a "
            "rate in CLV_ECONOMICS__EXCHANGE_RATES"
        )
    _warn_of_beginning(asked.since.words)
    return FromOrders(
        orders.events,
        lambda: orders.end().moment,
        partitions,
        total=orders.expected or 0,
        since=asked.since,
        until=asked.until,
    )


def checked_file(asked: Asked) -> FromFile:
    """A recording that was read whole; CommandError, RecordingUnusable, OSError."""
    path = Path(asked.name)
    if not path.is_file():
        raise CommandError(
            f"there is no file {asked.name}, and it names neither a data set "
            f"({', '.join(DATASETS)}) nor topics: those are {', '.join(ROLES)}, or inputs, or all"
        )
    recording = Recording(path)
    with progress_bar("Checking", "bytes") as moved:
        source = FromFile(recording, asked.since, asked.until, moved)
    unknown = [topic.name for topic in source.topics if topic.role not in ROLES]
    if unknown:
        raise CommandError(
            f"{path} has records of {', '.join(unknown)}, which this program cannot replay; record "
            f"some of {', '.join((*INPUTS, 'clock', 'models'))}"
        )
    if source.end.apart:
        warn(
            f"{path} merges its customers with {some_of(source.end.apart)}, and lacks their own "
            "events: values lack them too. Record again: `clv record --customers` takes in who was "
            "merged"
        )
    head = recording.head
    since = head.since if _is_whole(asked.since.words) else asked.since.words
    _warn_of_beginning(since, head.topics, head.spans)
    return source


def _is_file_of_orders(path: Path) -> bool:
    """Whether `clv load` takes a file of this name, and it is not a recording."""
    try:
        file_format(path)
        with path.open("rb") as file:
            return file.read(len(MAGIC)) != MAGIC
    except (InputFileError, OSError):
        return False


def _warn_of_beginning(
    since: str, topics: Sequence[RecordedTopic] = (), spans: Sequence[Span] = ()
) -> None:
    """Warn of a slice that begins later than its topics."""
    late = [
        f"{topics[span.topic].name}[{span.partition}]@{span.start}"
        for span in spans
        if span.start > 0 and topics[span.topic].role in INPUTS
    ]
    if not _is_whole(since):
        begins = f"at {since}"
    elif late:
        others = f" (and {len(late) - 1:,} more late)" if len(late) > 1 else ""
        begins = f"at {late[0]}{others}"
    else:
        return
    warn(
        f"what is replayed begins {begins}: what happened before is not in it, and customers are "
        "valued as if it had not happened"
    )


def _is_whole(since: str) -> bool:
    return since in (BEGINNING.words, "offset 0")


@contextmanager
def shown(source: Source, title: str) -> Iterator[Callable[[], None]]:
    """A bar, and what moves it."""
    with progress_bars() as bars:
        task = bars.add_task(title, total=source.total, note="records")
        yield lambda: bars.update(task, completed=source.done)
