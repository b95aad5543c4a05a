"""Opening what is to be replayed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from models.contracts.clock import Tick
from models.economics import Economics
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, progress_bars, warn
from streams.cli.record_options import INPUTS, ROLES, parse_roles, topics_at_broker
from streams.cli.sources import Source as Orders
from streams.cli.sources import open_source
from streams.datasets import DATASETS
from streams.files import InputFileError
from streams.files.rows import file_format
from streams.recording import (
    BEGINNING,
    END,
    Bound,
    FromFile,
    FromTopics,
    Recorded,
    RecordedTopic,
    Recording,
    Source,
    live_slice,
)
from streams.recording.format import MAGIC
from streams.settings import Settings
from streams.testing.clock import milliseconds
from streams.topics import home_partition

_WORDS = frozenset({"all", "inputs", *ROLES})


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be replayed: a file or topics, from where and until where."""

    name: str
    since: Bound
    until: Bound

    @property
    def is_topics(self) -> bool:
        """Whether topics at the broker are meant."""
        return set(self.name.split(",")) <= _WORDS and not Path(self.name).exists()

    @property
    def is_orders(self) -> bool:
        """Whether a data set, or a file of orders, is meant."""
        return self.name in DATASETS or _is_file_of_orders(Path(self.name))


class FromOrders:
    """A data set, or a file of orders, as it would have been published when it happened.

    Each event is a record of its own time; in the end time passes up to the end of the last day, or
    to a data set's own as-of time. partitions: of each topic.
    """

    pseudonyms = False

    def __init__(
        self, orders: Orders, partitions: int, since: Bound = BEGINNING, until: Bound = END
    ) -> None:
        self.topics = tuple(RecordedTopic(r, r, partitions) for r in (*INPUTS, "clock"))
        self.total = orders.expected or 0
        self.done = 0
        self._orders = orders
        self._partitions = partitions
        self._since, self._until = since, until

    async def records(self) -> AsyncIterator[Recorded]:
        """The records; errors: InputFileError."""
        self.done = 0
        numbers = {(topic, n): count() for topic in range(4) for n in range(self._partitions)}
        homes: dict[bytes, int] = {}
        roles = [topic.role for topic in self.topics]
        for event in self._orders.events():
            self.done += 1
            key = event.key
            home = 0 if key is None else homes.get(key)
            if home is None:
                home = homes[key or b""] = home_partition(key or b"", self._partitions)
            place = roles.index(event.topic), home
            at, headers = milliseconds(event.time), tuple(event.headers)
            record = Recorded(*place, next(numbers[place]), at, key, event.value, headers)
            if self._since != BEGINNING and not self._since.reached_by(record):
                continue
            if not self._until.reached_by(record):
                yield record
        as_of = self._orders.as_of or self._orders.last_day()
        value = Tick(as_of=as_of).model_dump_json(exclude_none=True).encode()
        for number in range(self._partitions):
            tick = Recorded(len(INPUTS), number, 0, milliseconds(as_of), None, value)
            if not self._until.reached_by(tick):
                yield tick


@asynccontextmanager
async def opened(settings: Settings, asked: Asked) -> AsyncIterator[Source]:
    """The source, once it was found whole.

    Errors: CommandError, RecordingUnusable, OSError, KafkaError.
    """
    if asked.is_topics:
        topics = await topics_at_broker(settings, parse_roles(asked.name))
        broker = need_broker(settings)
        async with live_slice(broker, topics, asked.since, asked.until) as live:
            yield FromTopics(live)
            for waiting in live.waiting:
                warn(f"{waiting}: what follows is in an open transaction, and was not replayed")
    else:
        yield repeatable(asked, settings.economics, settings.partitions)


def repeatable(asked: Asked, economics: Economics, partitions: int) -> FromFile | FromOrders:
    """A source that can be read twice: a recording, a data set, or a file of orders.

    partitions: for what was never published. Errors: CommandError, RecordingUnusable,
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
    return FromOrders(orders, partitions, asked.since, asked.until)


def checked_file(asked: Asked) -> FromFile:
    """A recording that was read whole; CommandError, RecordingUnusable, OSError."""
    path = Path(asked.name)
    if not path.is_file():
        raise CommandError(
            f"there is no file {asked.name}, and it names neither a data set "
            f"({', '.join(DATASETS)}) nor topics: those are {', '.join(ROLES)}, or inputs, or all"
        )
    recording = Recording(path)
    with progress_bars() as bars:
        task = bars.add_task("Checking", total=recording.size, note="bytes")
        source = FromFile(
            recording,
            asked.since,
            asked.until,
            lambda done, total: bars.update(task, completed=done, total=total),
        )
    unknown = [topic.name for topic in source.topics if topic.role not in ROLES]
    if unknown:
        raise CommandError(
            f"{path} has records of {', '.join(unknown)}, which this program cannot replay; record "
            f"some of {', '.join((*INPUTS, 'clock', 'models'))}"
        )
    if asked.since == BEGINNING and (cut := _begun_late(recording)):
        warn(
            f"the recording begins at {cut}: what happened before is not in it, and customers "
            "are valued as if it had not happened"
        )
    return source


def _is_file_of_orders(path: Path) -> bool:
    """Whether a file has a name that `clv load` takes, and is no recording of that name."""
    try:
        file_format(path)
        with path.open("rb") as file:
            return file.read(len(MAGIC)) != MAGIC
    except (InputFileError, OSError):
        return False


def _begun_late(recording: Recording) -> str | None:
    """Where a recording begins after the beginning of its topics; None where it does not."""
    return None if recording.head.since == BEGINNING.words else recording.head.since


@contextmanager
def shown(source: Source, title: str) -> Iterator[Callable[[], None]]:
    """A bar, and what moves it."""
    with progress_bars() as bars:
        task = bars.add_task(title, total=source.total, note="records")
        yield lambda: bars.update(task, completed=source.done)
