"""Poison records: a record that makes the engine raise stops two workers, then is a dead letter.

The engine is pure, so the record is found by running it again on fewer records. Before the record
stops a worker, a strike is written to the changelog of its partition. The third time it becomes a
dead letter, and the partition goes on. No accepted data is lost: the event or tick was not applied.
Messages between customers carry accepted data, and never become dead letters this way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn

import msgspec
import structlog

from models.aggregate.record import WrittenByNewer, strikes_key
from models.contracts import Reason, Refused, customer_of, decode
from models.economics import MissingRate
from models.errors import ClvError
from models.outputs import Outputs, Record, RefusedRecord
from models.routing import Route, route_of
from streams.kafka.errors import KafkaError
from streams.transport.batches import RecordBatch
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

MOST_STRIKES: Final = 2
"""How many workers a record may stop before it becomes a dead letter."""

_WITNESSES: Final = 5
"""If this many records of other customers are tried and all fail, no record is to blame."""

_ASKED: Final = 20
_STRIKE_SECONDS: Final = 20.0
_SHOWN: Final = 500
_NOT_THE_RECORDS: Final = (WrittenByNewer, MissingRate, MemoryError)

Work = Callable[[RecordBatch], Outputs]
Strikes = dict[int, int]
"""How many workers a record has stopped, by its offset."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Strikes).decode


class PoisonRecord(ClvError):
    """A record made the engine raise; the text says which, of whom, and what happens next."""


class Suspected(ClvError):
    """A tick fails because of one customer, and has stopped fewer than `MOST_STRIKES` workers."""

    def __init__(self, key: bytes, error: Exception) -> None:
        super().__init__(key, error)
        self.key = key
        self.error = error


def first_bad(length: int, fails: Callable[[int], bool]) -> int | None:
    """Return the first item with which a sequence fails; None if it never fails, or fails empty.

    fails: returns whether the first n items fail.
    """
    if fails(0) or not fails(length):
        return None
    good, bad = 0, length
    while bad - good > 1:
        middle = (good + bad) // 2
        if fails(middle):
            bad = middle
        else:
            good = middle
    return good


def is_nobodys(others: Sequence[Any], fails: Callable[[Any], bool]) -> bool:
    """Return whether so many other items fail too that the fault is in none of them."""
    asked = others[:_ASKED]
    return len(asked) >= _WITNESSES and all(map(fails, asked))


def _culprit(
    items: Sequence[Any], work: Callable[[Sequence[Any]], Outputs], error: Exception
) -> int | None:
    """Return which of these records or keys makes `work` raise; None if none is to blame."""
    if isinstance(error, _NOT_THE_RECORDS):
        return None

    def fails(some: Sequence[Any]) -> bool:
        try:
            work(some)
        except Exception:  # noqa: BLE001 - whatever it is
            return True
        return False

    at = first_bad(len(items), lambda count: fails(items[:count]))
    if at is None:
        return None
    whose = _key(items[at])
    others = [other for other in items if _key(other) != whose]
    return None if is_nobodys(others, lambda other: fails([other])) else at


def _key(item: Any) -> bytes | None:
    key: bytes | None = item if isinstance(item, bytes) else item.key
    return key


class Poison:
    """Turns records that stop workers into dead letters, for one app.

    committed: returns the committed offset of a "topic/partition". protected: the topic whose
    messages never become dead letters.
    """

    def __init__(
        self, table: PartitionedTable, committed: Callable[[str], int], protected: str
    ) -> None:
        self._table = table
        self._committed = committed
        self._protected = protected

    async def instead(self, batch: RecordBatch, work: Work, error: Exception) -> Outputs:
        """Return the outputs of a batch whose `work` raised: up to the record, or its dead letter.

        Raises
        ------
        PoisonRecord
            if the record has not stopped enough workers yet, or is in the protected topic.
        Exception
            the error itself, if no single record is to blame.
        """
        number = _culprit(batch.records, lambda some: work(replace(batch, records=some)), error)
        if number is None:
            raise error
        if number:
            return work(batch.cut(number)[0])
        record = batch.records[0]
        whose = _customer(record)
        if batch.tp.topic == self._protected:
            where = _where(batch, record)
            log.critical(
                "a message between customers cannot be worked on; it carries what was accepted, "
                "and is never set aside",
                where=where,
                customer=whose,
                error=repr(error),
                remedy="run a version that can; nothing of this partition goes on before",
            )
            raise PoisonRecord(f"{where}, a message for customer {whose!r}: {error!r}") from error
        if not self.is_out(batch, record):
            await self.strike(batch, record, whose, error)
        return Outputs(dead_letters=[self.letter(batch, record, whose, error)], taken=1)

    def is_out(self, batch: RecordBatch, record: Record) -> bool:
        """Return whether a record has stopped `MOST_STRIKES` workers."""
        return self._strikes(batch).get(record.offset, 0) >= MOST_STRIKES

    async def strike(
        self, batch: RecordBatch, record: Record, whose: str, error: Exception
    ) -> NoReturn:
        """Write a strike to the changelog, then raise PoisonRecord."""
        strikes = self._strikes(batch)
        count = strikes[record.offset] = strikes.get(record.offset, 0) + 1
        noted = "that could not be noted"
        try:
            async with asyncio.timeout(_STRIKE_SECONDS):
                await asyncio.gather(*self._write(batch, strikes))
            noted = f"strike {count} of {MOST_STRIKES}; after these it is set aside"
        except (KafkaError, TimeoutError) as unsent:
            log.warning("a strike is not in the changelog", error=repr(unsent))
        where = _where(batch, record)
        raise PoisonRecord(
            f"{where}, of customer {whose!r}, cannot be worked on ({noted}): {error!r}"
        ) from error

    def letter(
        self, batch: RecordBatch, record: Record, whose: str, error: Exception, more: str = ""
    ) -> RefusedRecord:
        """Return the dead letter of a poison record; more: what of it was applied nevertheless."""
        route = _route(record)
        log.critical(
            "a record that stopped workers is set aside as a dead letter; the partition goes on",
            where=_where(batch, record),
            customer=whose,
            error=repr(error),
            remedy="keep the log; once a version can work on it: clv dead-letters retry --force",
        )
        text = str(error)[:_SHOWN]
        refused = Refused(
            Reason.POISON,
            None,
            f"working on this record, of customer {whose!r}, stopped {MOST_STRIKES} workers with "
            f"{type(error).__name__}: {text}. {more or 'Nothing of it was applied'}. Publisher: do "
            "not send it again. Operator: this is a defect of the service or of the customer's "
            "stored record; report it, and retry this letter by force when it is repaired",
        )
        return RefusedRecord(record, refused, route)

    def scored(
        self,
        batch: RecordBatch,
        record: Record,
        keys: Sequence[bytes],
        score: Callable[[Sequence[bytes]], Outputs],
    ) -> Iterator[Outputs]:
        """Score customers for a tick; a customer who made it stop enough workers is left out.

        Raises
        ------
        Suspected
            if one customer makes it fail, and it has not stopped enough workers yet.
        Exception
            the error itself, if no single customer is to blame.
        """
        while keys:
            try:
                outputs = score(keys)
            except Exception as error:
                at = _culprit(keys, score, error)
                if at is None:
                    raise
                if not self.is_out(batch, record):
                    raise Suspected(keys[at], error) from error
                outputs = score(keys[:at])
                whose = keys[at].decode()
                more = "This customer was not scored, the others were"
                outputs.dead_letters.append(self.letter(batch, record, whose, error, more))
                keys = keys[at + 1 :]
            else:
                keys = ()
            yield outputs

    def forgive(self, batch: RecordBatch) -> None:
        """Remove the strikes of committed records: they are never processed again."""
        key = strikes_key(batch.origin)
        if key not in self._table.partition(batch.tp.partition):
            return
        strikes, committed = self._strikes(batch), self._committed(batch.origin)
        left = {offset: count for offset, count in strikes.items() if offset >= committed}
        if left != strikes:
            self._write(batch, left)

    def _strikes(self, batch: RecordBatch) -> Strikes:
        stored = self._table.partition(batch.tp.partition).get(strikes_key(batch.origin))
        return {} if stored is None else _decode(stored)

    def _write(self, batch: RecordBatch, strikes: Strikes) -> Sequence[asyncio.Future[Any]]:
        partition = batch.tp.partition
        items = {strikes_key(batch.origin): _encode(strikes) if strikes else None}
        self._table.update_partition(batch.tp, items)
        return self._table.send_items(partition, items)


def _where(batch: RecordBatch, record: Record) -> str:
    return f"{batch.tp.topic}[{batch.tp.partition}]@{record.offset}"


def _customer(record: Record) -> str:
    """Return the record's customer, as far as it can be read."""
    try:
        return customer_of(decode(record.key, record.value, record.headers), record.key)
    except Refused:
        return (record.key or b"").decode("utf-8", "backslashreplace")


def _route(record: Record) -> Route | None:
    try:
        return route_of(record.headers)
    except Refused:
        return None
