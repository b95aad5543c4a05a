"""A compressed batch is unpacked up to a budget; what exceeds it is one record."""

import gzip
import struct

import cramjam
import pytest
from aiokafka import codec
from aiokafka.record import legacy_records
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contracts import Reason, Refused
from models.oversized import OversizedBatch, check_unpacked
from streams.transport import headers, unpacking
from streams.transport.unpacking import UNPACKED_BYTES, UnpacksTooFar

from .packed import CODECS, packed_batch

NAMES = sorted(CODECS)
DECODE = {
    "gzip": unpacking.gzip_decode, "snappy": unpacking.snappy_decode,
    "lz4": unpacking.lz4_decode, "zstd": unpacking.zstd_decode,
}  # fmt: skip
ENCODE = {
    "gzip": codec.gzip_encode, "snappy": codec.snappy_encode,
    "lz4": codec.lz4_encode, "zstd": codec.zstd_encode,
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed():
    headers.install()


def read(data: bytes) -> list:
    batches = headers.ForgivingRecords(data)
    records = []
    while batches.has_next():
        records += batches.next_batch()
    return records


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(data=st.binary(min_size=1, max_size=300) | st.integers(1, 300_000).map(lambda n: b"ab" * n))
def test_what_is_within_the_budget_is_unpacked_as_it_was(name, data):
    assert DECODE[name](memoryview(ENCODE[name](data))) == data


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1, 70_000, UNPACKED_BYTES - 1, UNPACKED_BYTES])
def test_the_budget_itself_is_still_unpacked(name, size):
    assert len(DECODE[name](ENCODE[name](bytes(size)))) == size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [UNPACKED_BYTES + 1, 3 * UNPACKED_BYTES])
def test_what_exceeds_it_is_not(name, size):
    with pytest.raises(UnpacksTooFar, match="more than 33554432 bytes"):
        DECODE[name](ENCODE[name](bytes(size)))


def test_parts_of_a_payload_count_together():
    half = bytes(UNPACKED_BYTES // 2)
    some = {
        "gzip": [gzip.compress(half), gzip.compress(b"x")],
        "lz4": [codec.lz4_encode(half), codec.lz4_encode(b"x")],
        "zstd": [codec.zstd_encode(half), codec.zstd_encode(b"x")],
    }
    for name, (large, small) in some.items():
        assert len(DECODE[name](large + large)) == UNPACKED_BYTES, name
        with pytest.raises(UnpacksTooFar):
            DECODE[name](large + large + small)
    with pytest.raises(UnpacksTooFar):
        # 32 KB blocks with their lengths before them.
        DECODE["snappy"](codec.snappy_encode(half + half + b"x"))


def test_a_claim_of_gigabytes_allocates_nothing():
    # A block of snappy begins with its size, here 4 GiB - 1.
    with pytest.raises(UnpacksTooFar):
        unpacking.snappy_decode(b"\xff\xff\xff\xff\x0f" + bytes(8))
    # A frame of zstd can say its size in eight bytes; it holds one byte.
    lying = bytearray(b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**40) + b"\x09\x00\x00x")
    with pytest.raises(cramjam.DecompressionError):
        unpacking.zstd_decode(lying)


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_an_error_and_not_too_large(name):
    whole = ENCODE[name](b"some records" * 100)
    for spoilt in (whole[:-5], whole[: len(whole) // 2], b"no such thing at all"):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each codec has its own
            DECODE[name](spoilt)
        assert not isinstance(raised.value, UnpacksTooFar)


def test_a_negative_length_of_a_snappy_block_ends():
    framed = codec.snappy_encode(b"x" * 100)[:16] + struct.pack("!i", -4) + bytes(16)
    with pytest.raises(ValueError, match="length -4"):
        unpacking.snappy_decode(framed)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_that_unpacks_too_far_is_one_record_and_others_are_read(name):
    small = packed_batch(name, 3, b"small")
    large = packed_batch(name, 40, bytes(1_000_000))
    [*before, sealed, first, _, _] = read(small + large + small)
    assert [record.value for record in before] == [b"small"] * 3
    assert first.value == b"small"
    assert type(first.value) is bytes
    assert (sealed.offset, sealed.key, sealed.headers) == (39, None, ())
    assert type(sealed.value) is OversizedBatch
    assert sealed.value == large
    assert sealed.value.packed == (
        0, 39, 40, name, "it unpacks to more than 33554432 bytes"
    )  # fmt: skip


def test_its_bytes_give_its_records_again():
    large = packed_batch("gzip", 40, bytes(1_000_000))
    [sealed] = read(large)
    batch = MemoryRecords(bytes(sealed.value)).next_batch()
    assert batch.validate_crc()
    assert (batch.base_offset, batch.next_offset) == (0, 40)


def test_a_record_with_more_headers_than_fit_uncompressed_is_not_read():

    def batch(count: int, value: bytes = b"v") -> bytes:
        builder = DefaultRecordBatchBuilder(2, CODECS["gzip"], 0, -1, -1, -1, 1 << 30)
        for offset in range(2):
            builder.append(offset, 1, b"k", value, [("", None)] * (count * offset))
        return bytes(builder.build())

    assert len(read(batch(unpacking.MOST_HEADERS))[1].headers) == unpacking.MOST_HEADERS
    [sealed] = read(batch(unpacking.MOST_HEADERS + 1))
    assert "a record in it has 524289 headers" in sealed.value.packed.limit
    [sealed] = read(batch(unpacking.MOST_HEADERS + 1, bytes(2_000_000)))
    assert "a record in it has 524289 headers" in sealed.value.packed.limit
    # What looks like headers within a value is none.
    assert [len(record.value) for record in read(batch(3, bytes(2_000_000)))] == [2_000_000] * 2


@pytest.mark.parametrize("name", ["gzip", "snappy", "lz4"])
def test_the_old_formats_are_bounded_too(name):
    builder = LegacyRecordBatchBuilder(1, CODECS[name], 1 << 30)
    for offset in range(40):
        builder.append(offset, 5, b"k", bytes(1_000_000))
    data = bytes(builder.build())
    [sealed] = read(data)
    assert sealed.value == data
    assert (sealed.value.packed.records, sealed.value.packed.codec) == (None, name)
    small = LegacyRecordBatchBuilder(1, CODECS[name], 1 << 20)
    for offset in range(3):
        small.append(offset, 5, b"k", b"small" * 50)
    assert [record.value for record in read(bytes(small.build()))] == [b"small" * 50] * 3
    assert legacy_records.gzip_decode is unpacking.gzip_decode


def test_the_refusal_says_where_how_much_and_what_to_do():
    [sealed] = read(packed_batch("gzip", 40, bytes(1_000_000)))
    with pytest.raises(Refused) as raised:
        check_unpacked(sealed.value, "shop.orders/3")
    assert raised.value.reason is Reason.TOO_LARGE
    for words in (
        "shop.orders[3]@0 to @39", "40 records", f"{len(sealed.value)} bytes of gzip",
        "more than 33554432 bytes", "smaller batches",
    ):  # fmt: skip
        assert words in raised.value.detail


@pytest.mark.parametrize("value", [None, b"", b"x"])
def test_no_publisher_can_have_a_record_taken_for_a_batch(value):
    check_unpacked(value, "shop.orders/3")
    data = packed_batch("gzip", 40, bytes(1_000_000))
    check_unpacked(bytes(data), "shop.orders/3")
