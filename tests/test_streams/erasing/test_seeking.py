"""An id is found in every form in which the service writes it, and in no other id."""

import json

import msgspec
import pytest

from models.aggregate.record import CustomerRecord, MergedCustomer, encode_record
from streams.erasing.seeking import Seeker

IDS = ["c1", "customer-4711", "naïve-ñ-客户", 'with "quotes" and \\', "x" * 200, "Ä", "a b"]


@pytest.mark.parametrize("customer_id", IDS)
def test_an_id_is_found_in_json_and_messagepack_and_text(customer_id):
    seeker = Seeker([customer_id])
    document = {"data": {"customer_id": customer_id, "n": 1}}
    record = CustomerRecord(absorbed={customer_id: MergedCustomer(1, 2)})
    for data in (
        json.dumps(document).encode(),
        json.dumps(document, ensure_ascii=False).encode(),
        json.dumps({"value": json.dumps(document)}).encode(),
        msgspec.json.encode(document),
        msgspec.msgpack.encode(document),
        encode_record(record),
        encode_record(CustomerRecord(into=customer_id)),
        f"customer {customer_id!s}: refused".encode(),
        customer_id.encode(),
    ):
        assert seeker.within(data) == {customer_id}, data


def test_an_id_is_not_found_in_longer_ones():
    seeker = Seeker(["c1", "4711"])
    for other in ("c10", "xc1", "c1-2", "c1_b", "47110", "14711"):
        data = json.dumps({"customer_id": other}).encode()
        assert seeker.within(data) == frozenset(), other
    assert seeker.within(encode_record(CustomerRecord(into="c10"))) == frozenset()


def test_key_value_and_headers_of_a_record_are_looked_into():
    seeker = Seeker(["c1", "c2"])
    assert seeker.in_record(b"c1", None, []) == {"c1"}
    assert seeker.in_record(b"x", b'{"id":"c2"}', []) == {"c2"}
    assert seeker.in_record(b"x", b"y", [("clv.route", b'{"key":"c1"}'), ("n", None)]) == {"c1"}
    assert seeker.in_record(None, None, []) == frozenset()
    assert (seeker.key(b"c2"), seeker.key(b"c"), seeker.key(None)) == ("c2", None, None)
