"""What outputs look like as records of Kafka, and as entries of the cache."""

from __future__ import annotations

from collections.abc import Iterator

from models.contracts.dead_letters import CUT, dead_letter_headers
from models.documents import CONTENT_TYPE
from models.identity import via_header
from models.outputs import DeadLetter, Outputs, Rekeyed, Update
from streams.cache import VERSION_HEADER, CachedScore, Removal, published_score
from streams.transport import OutgoingRecord, RecordBatch

LARGEST_LETTER = 3 * 1024 * 1024
"""Bytes of a refused record's value that are kept; the topic takes a record of 4 MiB."""

_JSON = [CONTENT_TYPE]


def value_records(outputs: Outputs) -> Iterator[OutgoingRecord]:
    """The value updates, and a tombstone for each customer who is gone."""
    for update in outputs.updates:
        yield update.key, update.document, _JSON
    for gone in outputs.removed:
        yield gone.key, None, [(VERSION_HEADER, str(gone.version).encode())]


def change_records(outputs: Outputs) -> Iterator[OutgoingRecord]:
    """The segment changes, and the notices of customers who are gone."""
    for key, document in outputs.segment_changes:
        yield key, document, _JSON


def letter_record(batch: RecordBatch, letter: DeadLetter) -> OutgoingRecord:
    """A refused record as it was, with headers that say why."""
    record = letter.record
    headers = dead_letter_headers(
        letter.refused, record.headers, batch.tp.topic, batch.tp.partition, record.offset
    )
    value = record.value
    if value is not None and len(value) > LARGEST_LETTER:
        # It came compressed, and would not fit the topic as it is.
        headers.append((CUT, str(len(value)).encode()))
        value = value[:LARGEST_LETTER]
    return record.key, value, headers


def stray_record(batch: RecordBatch, stray: Rekeyed) -> OutgoingRecord:
    """A record under the key it belongs to, with headers that say where it came from."""
    record = stray.record
    where = f"{batch.tp.topic}[{batch.tp.partition}]@{record.offset}"
    headers = [*record.headers, ("clv.rekeyed-from", where.encode())]
    if stray.via:
        headers.append(via_header(stray.via))
    return stray.key, record.value, headers


def cached(update: Update) -> CachedScore:
    """A value update as the cache has it."""
    return published_score(
        update.customer_id, update.version, update.clv, update.segments, update.document
    )


def removals(outputs: Outputs) -> list[Removal]:
    """The customers who are gone, as the cache has it."""
    return [Removal(gone.customer_id, gone.version) for gone in outputs.removed]
