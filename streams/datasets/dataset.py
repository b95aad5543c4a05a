"""What a data set is, and where its file lies."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from models.errors import ClvError
from streams.files.outgoing import OutgoingEvent

DATA_DIR_VARIABLE = "CLV_DATA_DIR"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "data"


class DatasetMissingError(ClvError, FileNotFoundError):
    """The file of a data set is not there; the text says its name and where to get it."""


@dataclass(frozen=True)
class Dataset:
    """Published orders of a real shop, as events.

    `first` and `last` are the times of the first and the last event; `orders` and `refunds` count
    the events, so their sum is the length of `events()`.
    """

    name: str
    title: str
    source: str
    licence: str
    currency: str
    first: datetime
    last: datetime
    orders: int
    refunds: int
    file_name: str
    where_to_get_it: str
    in_source_tree: bool
    read: Callable[[Path], Iterator[OutgoingEvent]]

    @property
    def as_of(self) -> datetime:
        """The start of the day after the last event, UTC."""
        day = self.last.astimezone(UTC).date() + timedelta(days=1)
        return datetime.combine(day, time(), UTC)

    def path(self) -> Path:
        """Return the file, from the directory CLV_DATA_DIR or the source tree.

        Raises DatasetMissingError when it is in neither.
        """
        configured = os.environ.get(DATA_DIR_VARIABLE)
        directories = [Path(configured)] if configured else []
        if self.in_source_tree:
            directories.append(EXAMPLES)
        for directory in directories:
            candidate = directory / self.file_name
            if candidate.is_file():
                return candidate
        looked_in = ", ".join(map(str, directories)) or f"nowhere ({DATA_DIR_VARIABLE} is not set)"
        raise DatasetMissingError(
            f"data set {self.name!r}: {self.file_name} is missing; looked in: {looked_in}. "
            f"Get it from {self.where_to_get_it}, and set {DATA_DIR_VARIABLE} to its directory."
        )

    def events(self) -> Iterator[OutgoingEvent]:
        """Return the events in order of time; raises DatasetMissingError at once, not later."""
        return self.read(self.path())
