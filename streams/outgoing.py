"""What outputs look like as records of Kafka, and as entries of the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from models.contracts import Refused
from models.contracts.dead_letters import CUT, CUT_PARTS, dead_letter_headers
from models.documents import CONTENT_TYPE
from models.outputs import DeadLetter, Outputs
from models.routing import route_header, without_route
from models.sizes import header_size
from streams.cache import CachedScore, Removal, published_score
from streams.transport import Delivery, OutgoingRecord, RecordBatch, topic_partition

VERSION_HEADER = "clv-version"
"""Header of a tombstone: the version at which the customer was forgotten, in decimal digits."""

LARGEST_LETTER = 3 * 1024 * 1024
"""Bytes of a refused record's value that are kept; the topic takes a record of 4 MiB."""

LARGEST_KEY = 256 * 1024
"""Bytes of its key that are kept."""

LARGEST_HEADERS = 256 * 1024
"""Bytes of its headers that are kept, encoded."""

MOST_HEADERS = 10_000
"""How many of its headers are kept."""

LONGEST_WORDS = 8_000
"""Characters of a reason, and of a field's name, that a letter gives."""

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
    """A refused record as it was published, with headers that say why; it always fits the topic.

    Of what came compressed and is too large the beginning is kept, and headers say what is missing.
    """
    record = letter.record
    topic, partition, offset = batch.tp.topic, batch.tp.partition, record.offset
    full_key, published = record.key, record.headers
    if (route := letter.route) is not None:
        topic, partition = topic_partition(route.origin)
        offset, full_key, published = route.offset, route.key, without_route(published)
    kept = _within(published)
    headers = dead_letter_headers(_in_short(letter.refused), kept, topic, partition, offset)
    key = full_key and full_key[:LARGEST_KEY]
    value = record.value and record.value[:LARGEST_LETTER]
    parts = (
        ("value", value, record.value, "bytes"),
        ("key", key, full_key, "bytes"),
        ("headers", kept, published, "headers"),
    )
    missing = [
        f"{part}: {len(left or ())} of {len(had or ())} {unit} kept"
        for part, left, had, unit in parts
        if len(left or ()) < len(had or ())
    ]
    if missing:
        headers += [
            (CUT_PARTS, "; ".join(missing).encode()),
            (CUT, str(len(record.value or b"")).encode()),
        ]
    return key, value, headers


def _within(headers: Sequence[tuple[str, bytes]]) -> Sequence[tuple[str, bytes]]:
    """The first headers, as far as a letter keeps them."""
    left = LARGEST_HEADERS
    for number, (name, content) in enumerate(headers):
        left -= header_size(name, content)
        if left < 0 or number == MOST_HEADERS:
            return headers[:number]
    return headers


def _in_short(refused: Refused) -> Refused:
    """A refusal whose words fit beside a record; names of fields can be as long as the event."""
    field, detail = refused.field or "", refused.detail
    if len(field) <= LONGEST_WORDS and len(detail) <= LONGEST_WORDS:
        return refused
    return Refused(refused.reason, field[:LONGEST_WORDS], f"{detail[:LONGEST_WORDS]}…")


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
