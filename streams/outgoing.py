"""The outputs of a batch as Kafka records, by topic and stage, and as entries of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import NamedTuple

from models.contracts import Refused
from models.contracts.dead_letters import CUT, CUT_PARTS, dead_letter_headers
from models.documents import CONTENT_TYPE
from models.outputs import Outputs, RefusedRecord
from models.routing import route_header, without_route
from models.sizes import header_size
from streams.cache import CachedScore
from streams.cache.score import Removal, published_score
from streams.settings import Topics
from streams.transport.batches import RecordBatch, origin_parts
from streams.transport.producer import Delivery, OutgoingRecord

VERSION_HEADER = "clv-version"
"""Header of a tombstone: the version of the removal, in decimal digits."""

LARGEST_LETTER = 3 * 1024 * 1024
"""Bytes of a refused record's value that a dead letter keeps; the topic's limit is 4 MiB."""

LARGEST_KEY = 256 * 1024
"""Bytes of its key that are kept."""

LARGEST_HEADERS = 256 * 1024
"""Bytes of its headers that are kept, encoded."""

MOST_HEADERS = 10_000
"""How many of its headers are kept."""

LONGEST_WORDS = 8_000
"""Characters of a reason, and of a field's name, that a dead letter keeps."""

_JSON = [CONTENT_TYPE]


def value_records(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield the value updates, and a tombstone for each removed customer."""
    for update in outputs.updates:
        yield update.key, update.document, _JSON
    for gone in outputs.removed:
        yield gone.key, None, [(VERSION_HEADER, str(gone.version).encode())]


def change_records(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield segment changes and removals, by customer's key."""
    for key, document in outputs.segment_changes:
        yield key, document, _JSON


def message_records(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield messages to customers in other partitions."""
    for key, message in outputs.messages:
        yield key, message, []


def handover_records(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield handovers: states of merged customers for those who stay."""
    for key, message in outputs.handovers:
        yield key, message, []


def letter_records(batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield the dead letters, then the notices."""
    for letter in (*outputs.dead_letters, *outputs.notices):
        yield letter_record(batch, letter)


def published_at(batch: RecordBatch, letter: RefusedRecord) -> tuple[str, int, int]:
    """Return topic, partition and offset at which a refused record was published."""
    if letter.route is None:
        return batch.tp.topic, batch.tp.partition, letter.record.offset
    topic, partition = origin_parts(letter.route.origin)[0]
    return topic, partition, letter.route.offset


def letter_record(batch: RecordBatch, letter: RefusedRecord) -> OutgoingRecord:
    """Return a dead letter: the refused record as published, and headers with the reason.

    It always fits the topic: of a record that was compressed and is too large, the beginning is
    kept, and headers say what is missing.
    """
    record = letter.record
    topic, partition, offset = published_at(batch, letter)
    full_key, published = record.key, record.headers
    if (route := letter.route) is not None:
        full_key, published = route.key, without_route(published)
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
    """Return the first headers, as many as a dead letter keeps."""
    left = LARGEST_HEADERS
    for number, (name, content) in enumerate(headers):
        left -= header_size(name, content)
        if left < 0 or number == MOST_HEADERS:
            return headers[:number]
    return headers


def _in_short(refused: Refused) -> Refused:
    """Shorten a refusal's texts; the name of a field can be as long as the event."""
    field, detail = refused.field or "", refused.detail
    if len(field) <= LONGEST_WORDS and len(detail) <= LONGEST_WORDS:
        return refused
    return Refused(refused.reason, field[:LONGEST_WORDS], f"{detail[:LONGEST_WORDS]}…")


def rerouted_records(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
    """Yield misrouted records under their customer's key, with the route in a header."""
    for key, record, route in outputs.rerouted:
        headers = [*without_route(record.headers), route_header(route)]
        yield key, record.value, headers


class Stage(Enum):
    """Whether an output is sent before or after the customers' records are stored.

    Once a record is stored, its input counts as replayed after a crash. Outputs that cannot be
    produced again from the stored record are therefore sent before.
    """

    BEFORE = "before"
    AFTER = "after"


class NewTopic(NamedTuple):
    """A topic's name and configuration; see `streams.retention`."""

    name: str
    config: Mapping[str, str]


class Output(NamedTuple):
    """An output to one topic.

    role: of the topic, as in the settings. records: returns the records of a batch. at_home: each
    record goes to the partition of its key, not to the batch's. cached: Redis holds these records.
    topic: name and configuration, if the settings have no topic of this role. traced: its records
    carry the trace of their batch, and not what publishers sent.
    """

    role: str
    stage: Stage
    records: Callable[[RecordBatch, Outputs], Iterable[OutgoingRecord]]
    at_home: bool = False
    cached: bool = False
    topic: NewTopic | None = None
    traced: bool = False

    def topic_name(self, topics: Topics) -> str:
        """Return the name of the topic."""
        return topics.named(self.role) if self.topic is None else self.topic.name


OUTPUTS: list[Output] = [
    Output("dead_letters", Stage.BEFORE, letter_records),
    Output("identity", Stage.BEFORE, message_records, at_home=True),
    Output("updates", Stage.AFTER, value_records, cached=True, traced=True),
    Output("segment_changes", Stage.AFTER, change_records, traced=True),
    Output("rerouted", Stage.AFTER, rerouted_records, at_home=True),
    Output("identity", Stage.AFTER, handover_records, at_home=True),
]
"""All outputs, in order; to publish to another topic, add an entry."""


def positions(deliveries: Iterable[Delivery]) -> list[int] | None:
    """Return the offset of each delivered record, in order; None if the broker did not say."""
    offsets: list[int] = []
    for start, end in deliveries:
        if start < 0:
            return None
        offsets += range(start, end)
    return offsets


def cached(outputs: Outputs, offsets: Sequence[int]) -> tuple[list[CachedScore], list[Removal]]:
    """Return the value updates and removals as entries of the cache.

    offsets: of `value_records`; ValueError if their number differs.
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
