"""What moves, and what is remembered where: without a broker."""

import pytest

from models.aggregate.record import (
    BASIS_KEY,
    ERASURE_KEY,
    Change,
    CustomerRecord,
    Forgotten,
    OutboxEntry,
    decode_forgotten,
    decode_record,
    encode_record,
    forgotten_key,
)
from streams.growing.moving import Growth, forgotten, inherited, joined, outbox, outgoing
from streams.kafka.partitions import home_partition

ENTRY = OutboxEntry(3, 0, "shop.orders/1", 7, changes=(Change("tier", None, "gold"),))
KEYS = [f"c{number}".encode() for number in range(200)]


def fingerprint(name):
    return forgotten_key(name, b"secret")


def left(version, erased_at=1, **applied):
    return encode_record(Forgotten(erased_at, version, applied, (ENTRY,)))


@pytest.mark.parametrize("growth", [Growth(4, 12), Growth(4, 6), Growth(1, 2), Growth(3, 4)])
def test_every_customer_is_stored_once_and_at_home_afterwards(growth):
    held = {n: {} for n in range(growth.new)}
    for key in KEYS:
        held[home_partition(key, growth.old)][key] = encode_record(CustomerRecord(version=3))
    for partition in range(growth.old):
        for key, data in outgoing(held[partition], partition, growth).items():
            held[growth.home(key)][key] = data
            del held[partition][key]
    assert sorted(key for keys in held.values() for key in keys) == sorted(KEYS)
    assert all(growth.home(key) == n for n, keys in held.items() for key in keys)


@pytest.mark.parametrize("growth", [Growth(4, 12), Growth(4, 6), Growth(5, 7), Growth(2, 3)])
def test_the_erased_are_remembered_where_they_are_at_home_afterwards(growth):
    by_partition = {n: {} for n in range(growth.old)}
    for number, key in enumerate(KEYS):
        by_partition[home_partition(key, growth.old)][fingerprint(key)] = left(number)
    for partition in range(growth.new):
        held = by_partition.get(partition, {}) | inherited(partition, by_partition, growth)
        for number, key in enumerate(KEYS):
            if growth.home(key) == partition:
                assert decode_forgotten(held[fingerprint(key)]).version == number


def test_in_a_multiple_each_partition_inherits_from_one_alone():
    by_partition = {n: {fingerprint(KEYS[n]): left(1)} for n in range(4)}
    rows = {n: inherited(n, by_partition, Growth(4, 12)) for n in range(12)}
    assert rows == {n: {} for n in range(4)} | {
        n: {fingerprint(KEYS[n % 4]): left_without_outbox(1)} for n in range(4, 12)
    }


def left_without_outbox(version):
    return encode_record(Forgotten(1, version, {}, ()))


def test_what_is_inherited_once_more_is_nothing_new():
    growth = Growth(4, 6)
    by_partition = {n: {fingerprint(KEYS[n]): left(n, a=n)} for n in range(4)}
    rows = {n: inherited(n, by_partition, growth) for n in range(6)}
    again = {n: by_partition.get(n, {}) | rows[n] for n in range(6)}
    assert all(inherited(n, again, growth) == {} for n in range(6))


@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_memories_of_one_erased_customer_nothing_is_lost(swapped):
    one = encode_record(Forgotten(5, 9, {"a/0": 3, "b/0": 1}, ()))
    other = encode_record(Forgotten(8, 4, {"a/0": 1, "c/0": 2}, ()))
    found = decode_forgotten(joined(other, one) if swapped else joined(one, other))
    assert found == Forgotten(8, 9, {"a/0": 3, "b/0": 1, "c/0": 2}, ())


def test_a_record_moves_without_its_outbox_and_else_as_it_is():
    record = CustomerRecord(
        version=3, applied={"shop.orders/1": 7}, segments={"tier": "gold"}, clv=2.5,
        outbox=(ENTRY,),
    )  # fmt: skip
    growth = Growth(1, 2)
    key = next(key for key in KEYS if growth.home(key) == 1)
    [(_, data)] = outgoing({key: encode_record(record)}, 0, growth).items()
    moved = decode_record(data)
    assert moved.outbox == ()
    record.outbox = ()
    assert moved == record


def test_records_that_are_no_customers_stay():
    held = {BASIS_KEY: b"x", ERASURE_KEY: b"y", fingerprint(b"c"): left(1)}
    assert outgoing(held, 0, Growth(1, 2)) == {}
    assert list(forgotten(held)) == [fingerprint(b"c")]


def test_what_waits_in_outboxes_is_found_of_customers_and_of_the_erased():
    held = {b"c": encode_record(CustomerRecord(outbox=(ENTRY,))), fingerprint(b"d"): left(1)}
    assert list(outbox(held)) == [
        (b"c", "shop.orders/1", 7),
        (fingerprint(b"d"), "shop.orders/1", 7),
    ]
