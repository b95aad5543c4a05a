"""What outputs look like as records of Kafka, and as entries of the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from models.contracts.dead_letters import CUT, dead_letter_headers
from models.documents import CONTENT_TYPE
from models.outputs import DeadLetter, Outputs
from models.routing import route_header, without_route
from streams.cache import CachedScore, Removal, published_score
from streams.transport import Delivery, OutgoingRecord, RecordBatch, topic_partition

VERSION_HEADER = "clv-version"
"""Header of a tombstone: the version at which the customer was forgotten, in decimal digits."""

LARGEST_LETTER = 3 * 1024 * 1024
"""Bytes of a refused record's value that are kept; the topic takes a record of 4 MiB."""

LARGEST_HEADERS = 256 * 1024
"""Bytes of its headers, and of its key, that are kept."""

_JSON = [CONTENT_TYPE]


def value_records(outputs: Outputs) -> Iterator[OutgoingRecord]:
    """The value updates, and a tombstone for each customer who is gone."""
    for update in outputs.updates:
        yield update.key, update.document, _JSON
    for gone in outputs.removed:
        yield gone.key, None, [(VERSION_HEADER, str(gone.version).encode())]


def change_records(changes: Iterable[tuple[bytes, bytes]]) -> Iterator[OutgoingRecord]:
    """Segment changes, and notices of customers who are gone, by customer's key."""
    for key, document in changes:
        yield key, document, _JSON


def message_records(
    messages: Iterable[tuple[bytes, bytes]],
) -> Iterator[tuple[bytes, OutgoingRecord]]:
    """Messages between customers, with the key of whom they are for."""
    for key, message in messages:
        yield key, (key, message, [])


def letter_record(batch: RecordBatch, letter: DeadLetter) -> OutgoingRecord:
    """A refused record as it was published, with headers that say why."""
    record = letter.record
    topic, partition, offset = batch.tp.topic, batch.tp.partition, record.offset
    published = record.headers
    if letter.route is not None:
        topic, partition = topic_partition(letter.route.origin)
        offset, published = letter.route.offset, without_route(published)
    kept, cut = _within(published, LARGEST_HEADERS)
    headers = dead_letter_headers(letter.refused, kept, topic, partition, offset)
    key, value = record.key, record.value
    if cut or len(value or b"") > LARGEST_LETTER or len(key or b"") > LARGEST_HEADERS:
        # It came compressed, and would not fit the topic as it is.
        headers.append((CUT, str(len(value or b"")).encode()))
        key = key and key[:LARGEST_HEADERS]
        value = value and value[:LARGEST_LETTER]
    return key, value, headers


def _within(
    headers: Sequence[tuple[str, bytes]], most: int
) -> tuple[list[tuple[str, bytes]], bool]:
    """The headers as far as they fit into so many bytes, and whether some were left out."""
    kept: list[tuple[str, bytes]] = []
    for name, content in headers:
        most -= len(name.encode()) + len(content or b"")
        if most < 0:
            return kept, True
        kept.append((name, content))
    return kept, False


def rerouted_records(outputs: Outputs) -> Iterator[tuple[bytes, OutgoingRecord]]:
    """Records under the key they belong to, with a header that says where they came from."""
    for key, record, route in outputs.rerouted:
        headers = [*without_route(record.headers), route_header(route)]
        yield key, (key, record.value, headers)


def positions(deliveries: Iterable[Delivery]) -> list[int] | None:
    """The offset of each record delivered, in order; None where the broker did not say."""
    offsets: list[int] = []
    for start, end in deliveries:
        if start < 0:
            return None
        offsets += range(start, end)
    return offsets


def cached(outputs: Outputs, offsets: Sequence[int]) -> tuple[list[CachedScore], list[Removal]]:
    """The value updates and the customers who are gone, as the cache has them.

    offsets: those of `value_records`. Errors: ValueError for more or fewer of them.
    """
    updates = len(outputs.updates)
    scores = [
        published_score(update.customer_id, at, update.clv, update.segments, update.document)
        for update, at in zip(outputs.updates, offsets[:updates], strict=True)
    ]
    removals = [
        Removal(gone.customer_id, at)
        for gone, at in zip(outputs.removed, offsets[updates:], strict=True)
    ]
    return scores, removals
