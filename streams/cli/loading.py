"""What `clv load` and `clv backfill` share: how far they came, and what of it was refused."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from models.errors import ClvError
from streams.cli.console import say, warn
from streams.cli.sources import Source
from streams.cli.worker import describe
from streams.dead_letters.of_load import ends_of, refused_since
from streams.files.loaded import Loaded
from streams.files.outgoing import OutgoingEvent
from streams.files.report import RefusedDocument, RefusedRows
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.kafka.partitions import TopicPartition
from streams.settings import Settings


class Loading:
    """Publishes the events of a source, each with a header that says where it comes from.

    published: how many events the broker has acknowledged. refused: what the workers refused of
    them; None while that is not known.
    """

    def __init__(self, settings: Settings, broker: Broker, source: Source) -> None:
        self.source = source
        self.published = 0
        self.refused: RefusedRows | None = None
        self._broker = broker
        self._topic = settings.topics.dead_letters
        self._run = secrets.token_hex(4)
        self._begins: Mapping[TopicPartition, int] | None = None

    async def begin(self) -> None:
        """Note where the dead letters end, before anything is published."""
        try:
            self._begins = await ends_of(self._broker, self._topic)
        except (KafkaError, OSError) as error:
            self._warn_unread(error)

    def events(self) -> Iterator[OutgoingEvent]:
        """The events of the source."""
        name = Path(self.source.name).name
        for event in self.source.events():
            where = name if event.line is None else f"{name}:{event.line}"
            header = Loaded(self._run, where).header()
            yield event._replace(headers=[*event.headers, header])

    def add(self, more: int) -> None:
        """Count events that the broker has acknowledged."""
        self.published += more

    @contextmanager
    def goes_on(self) -> Iterator[None]:
        """Say how far it came if it is interrupted, or if it fails."""
        try:
            yield
        except (asyncio.CancelledError, ClvError, KafkaError, OSError):
            total = self.source.expected
            of = f" of about {total}" if total is not None else ""
            say(
                f"{self.published}{of} events of {self.source.name} are published; give the same "
                "command again to go on: what is loaded counts once"
            )
            raise

    async def count_refused(self) -> None:
        """Count what the workers, which have processed everything, refused of it."""
        if self._begins is None:
            return
        try:
            self.refused = await refused_since(self._broker, self._begins, self._run)
        except (KafkaError, OSError) as error:
            self._warn_unread(error)

    def _warn_unread(self, error: Exception) -> None:
        warn(f"{self._topic} cannot be read, so refused records are not counted: {describe(error)}")

    def tell(self) -> None:
        """Tell people which rows do not count, and which were refused, with the first of each."""
        words = self.source.report.uncounted_words()
        if words:
            say(words)
        rows = self.source.report.refused
        if rows.numbers:
            warn(
                f"{rows.numbers.total()} rows of {self.source.name} make no event that is "
                "accepted, and were published to be refused:",
                *rows.lines(),
            )
        if self.refused is not None and self.refused.numbers:
            warn(
                f"the workers refused {self.refused.numbers.total()} of {self.published} events; "
                "`clv dead-letters list` shows them:",
                *self.refused.lines(),
            )

    def document(self) -> dict[str, RefusedDocument | dict[str, int] | None]:
        """What `--json` says of rows and events that do not count."""
        return {
            "refused_rows": self.source.report.refused.document(),
            "uncounted_rows": dict(self.source.report.uncounted),
            "refused_events": None if self.refused is None else self.refused.document(),
        }
