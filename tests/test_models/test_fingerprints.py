"""Fingerprints tell nobody without the key whose they are, and former ones are taken over."""

from hashlib import blake2b

from models.aggregate.record import (
    ERASURE_KEY,
    Forgotten,
    encode_record,
    erasure_fingerprint,
    forgotten_key,
    former_key,
    is_customer,
    is_forgotten,
    knows_key,
    rekeyed,
)
from models.context import Context
from models.customers import Batch
from models.economics import Economics
from models.fingerprints import CACHE_NOTE, DIGEST_BYTES, ERASED, KEY_CHECK, LOG_MARK, fingerprint
from models.outputs import Outputs

SECRET = b"s" * 64
LEFT = encode_record(Forgotten(1_000, 7, {}, ()))


def held(value: bytes) -> bytes:
    """As a former version wrote what it was keyed by."""
    return b"\2" + blake2b(b"erasure key", digest_size=16, key=value[:64]).digest()


def remembered(states: dict[bytes, bytes], customer: bytes) -> int:
    context = Context(Economics(), erasure_key=SECRET)
    batch = Batch(states, "t/0", context, Outputs(), lambda *_: None)
    return batch.customer(customer).record.version


def test_each_purpose_and_each_key_has_fingerprints_of_its_own():
    purposes = (ERASED, KEY_CHECK, CACHE_NOTE, LOG_MARK)
    keys = (b"", SECRET, SECRET + b"longer than BLAKE2 takes", b"another")
    found = {fingerprint(b"c1", key, purpose) for key in keys for purpose in purposes}
    assert len(found) == len(purposes) * len(keys)
    assert {len(each) for each in found} == {DIGEST_BYTES} == {16}


def test_no_plain_hash_of_an_id_is_its_fingerprint():
    name = forgotten_key(b"customer-4711", SECRET)
    assert is_forgotten(name)
    assert not is_customer(name)
    plain = blake2b(b"customer-4711", digest_size=16)
    assert plain.hexdigest().encode() not in name
    assert name != forgotten_key(b"customer-4711", SECRET[:-1])


def test_fingerprints_of_a_version_without_a_key_become_keyed_and_are_found():
    plain = former_key(b"c1", b"")
    states = {ERASURE_KEY: held(b""), plain: LEFT, b"c2": b"a customer"}
    changes = rekeyed(states, SECRET)
    assert changes == {
        ERASURE_KEY: erasure_fingerprint(SECRET), forgotten_key(b"c1", SECRET): LEFT, plain: None
    }  # fmt: skip
    after = {k: v for k, v in {**states, **changes}.items() if v is not None}
    assert rekeyed(after, SECRET) == {}
    assert remembered(after, b"c1") == 7


def test_fingerprints_of_a_version_with_the_same_key_are_found():
    states = {ERASURE_KEY: held(SECRET), former_key(b"c1", SECRET): LEFT}
    assert rekeyed(states, SECRET) == {ERASURE_KEY: erasure_fingerprint(SECRET)}
    assert remembered(states, b"c1") == 7


def test_another_key_is_known_for_another_and_changes_nothing():
    for value in (erasure_fingerprint(b"another"), held(b"another")):
        assert not knows_key(value, SECRET)
        assert rekeyed({ERASURE_KEY: value, former_key(b"c1", b"another"): LEFT}, SECRET) == {}
    assert knows_key(None, SECRET)
    assert knows_key(erasure_fingerprint(SECRET), SECRET)
