"""Dead letters and rerouted records fit their topics, whatever was published."""

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import CustomerRecord, encode_record
from models.context import Context
from models.contracts import Reason, Refused
from models.contracts.dead_letters import CUT, CUT_PARTS, DeadLetter, split_headers
from models.economics import Economics
from models.engine import process
from models.outputs import RefusedRecord
from models.routing import Route, route_header
from streams.outgoing import LARGEST_LETTER, MOST_HEADERS, letter_record, rerouted_records
from streams.settings import Settings
from streams.topics import plan
from streams.transport.batches import RecordBatch
from tests.test_models.events import KafkaRecord, at, body, milliseconds

LETTER_TOPIC = next(
    int(topic.config["max.message.bytes"])
    for topic in plan(Settings())
    if topic.name == Settings().topics.dead_letters
)
INPUT_TOPIC = 1_048_588
"""What Kafka's topics take unless told otherwise."""

LONGEST_NAME = "t" * 249
MEBI = 1024 * 1024


def built(record) -> int:
    """The size of a record's batch, by the client that sends it."""
    key, value, headers = record
    batch = BatchBuilder(16_384, 0)
    assert batch.append(timestamp=None, key=key, value=value, headers=list(headers)) is not None
    batch.close()
    return len(batch._build())


def a_batch(record) -> RecordBatch:
    return RecordBatch(TP(LONGEST_NAME, 2**31 - 1), [record])


def lettered(record, refused=None):
    refused = refused or Refused(Reason.NOT_JSON, None, "it is none")
    return letter_record(a_batch(record), RefusedRecord(record, refused))


def lengths(most: int) -> st.SearchStrategy[int]:
    return st.integers(0, 200) | st.integers(0, most)


contents = st.none() | lengths(6 * MEBI).map(lambda length: b"\0" * length)
names = st.tuples(st.sampled_from(["a", "ä", "€", "😀"]), lengths(80_000)).map(
    lambda made: made[0] * made[1]
)
headers = st.lists(st.tuples(names, contents), max_size=4) | st.integers(0, 550_000).map(
    lambda count: [("", None)] * count
)
words = st.tuples(st.sampled_from(["a", "€", "😀", "\ud800"]), lengths(1 * MEBI)).map(
    lambda made: made[0] * made[1]
)


@settings(max_examples=60, deadline=None)
@given(key=contents, value=contents, headers=headers, field=words, detail=words)
def test_every_letter_fits_its_topic_and_says_what_was_cut(key, value, headers, field, detail):
    record = KafkaRecord(2**62, milliseconds(1), key, value, headers)
    kept_key, kept_value, sent = lettered(record, Refused(Reason.NOT_JSON, field, detail))
    assert built((kept_key, kept_value, sent)) <= LETTER_TOPIC
    parts = split_headers(sent)
    told = DeadLetter.from_headers(list(parts.added.items()))
    assert (told.reason, told.offset) == ("not-json", 2**62)
    assert (key or b"").startswith(kept_key or b"")
    assert (value or b"").startswith(kept_value or b"")
    assert parts.original == headers[: len(parts.original)]
    whole = (kept_key, kept_value, parts.original) == (key, value, headers)
    assert (CUT in parts.added) is (CUT_PARTS in parts.added) is (not whole)
    if not whole:
        assert parts.added[CUT] == str(len(value or b"")).encode()
    said = parts.added.get(CUT_PARTS, b"").decode()
    assert ("value: " in said) is (kept_value != value)
    assert ("key: " in said) is (kept_key != key)
    assert ("headers: " in said) is (len(parts.original) != len(headers))


def test_a_letter_says_how_much_of_what_it_lacks():
    huge = KafkaRecord(0, 1, b"c1", b"x" * (LARGEST_LETTER + 5), [("", None)] * 530_000)
    *_, sent = lettered(huge)
    assert dict(sent)[CUT_PARTS].decode() == (
        f"value: {LARGEST_LETTER} of {LARGEST_LETTER + 5} bytes kept; "
        f"headers: {MOST_HEADERS} of 530000 headers kept"
    )


def test_what_the_topic_takes_uncompressed_is_kept_whole():
    record = KafkaRecord(0, 1, b"k" * 200, b"x" * (MEBI - 400), [("n", b"v")] * 20)
    assert built((record.key, record.value, record.headers)) <= INPUT_TOPIC
    key, value, sent = lettered(record)
    assert (key, value, sent[:20]) == (record.key, record.value, record.headers)
    assert CUT not in dict(sent)


def an_order(key: bytes, headers, padding: int = 0) -> KafkaRecord:
    data = {
        "customer_id": "c1", "order_id": "o1", "placed_at": at(0), "currency": "USD",
        "total": "40", "padding": "x" * padding,
    }  # fmt: skip
    return KafkaRecord(5, milliseconds(1), key, body("order.placed", data), headers)


@settings(max_examples=60, deadline=None)
@given(padding=lengths(MEBI), headers=headers, foreign=st.booleans())
def test_a_rerouted_record_fits_its_topic_or_is_a_letter(padding, headers, foreign):
    record = an_order(b"c2" if foreign else b"c1", headers, padding)
    outputs = process(
        {}, "shop.orders/0", [record], Context(Economics(), None), now=milliseconds(2),
        at_home=lambda _key: False,
    )  # fmt: skip
    sent_on = list(rerouted_records(a_batch(record), outputs))
    assert len(sent_on) + len(outputs.dead_letters) == 1
    for sent in sent_on:
        assert sent[0] == b"c1"
        assert built(sent) <= INPUT_TOPIC
        assert (sent[1], sent[2][: len(headers)]) == (record.value, headers)
    for letter in outputs.dead_letters:
        assert letter.refused.reason is Reason.TOO_LARGE
        assert built(letter_record(a_batch(record), letter)) <= LETTER_TOPIC


@pytest.mark.parametrize("key", [b"", b"\xff", b"c2", None])
def test_the_letter_of_what_was_sent_on_has_the_key_it_was_published_under(key):
    route = Route("shop.orders/3", 7, key)
    record = an_order(b"c1", [("x", b"1"), route_header(route)])
    letter = RefusedRecord(record, Refused(Reason.NOT_JSON, None, "it is none"), route)
    kept, _, headers = letter_record(a_batch(record), letter)
    parts = split_headers(headers)
    told = DeadLetter.from_headers(list(parts.added.items()))
    assert (kept, told.topic, told.partition, told.offset) == (key, "shop.orders", 3, 7)
    assert parts.original == [("x", b"1")]


def test_many_empty_headers_are_not_sent_on():
    record = an_order(b"c2", [("", None)] * 530_000)
    outputs = process(
        {}, "shop.orders/0", [record], Context(Economics(), None), now=milliseconds(2)
    )
    assert outputs.rerouted == []
    [letter] = outputs.dead_letters
    assert "the record has 530000 headers" in letter.refused.detail
    assert built(letter_record(a_batch(record), letter)) <= LETTER_TOPIC


@pytest.mark.parametrize(("identities", "sent_on"), [(400, True), (600, False)])
def test_the_route_of_a_record_counts_as_well(identities, sent_on):
    route = Route("shop.orders/0", 3, b"c1", ("1",), ("€" * 60,) * identities)
    record = an_order(b"c1", [route_header(route)])
    states = {b"c1": encode_record(CustomerRecord(into="c9", merged_at=5))}
    outputs = process(
        states, "clv.rerouted/0", [record], Context(Economics(), None), now=milliseconds(2),
        role="rerouted",
    )  # fmt: skip
    records = list(rerouted_records(a_batch(record), outputs))
    assert (len(records), len(outputs.dead_letters)) == (sent_on, not sent_on)
    for sent in records:
        assert built(sent) <= INPUT_TOPIC
    for letter in outputs.dead_letters:
        assert built(letter_record(a_batch(record), letter)) <= LETTER_TOPIC
