"""Records as hostile as a Kafka topic can hold, for whatever has to survive them.

Everything costly is prepared once; a record is then a choice and a splice, so that a million of
them take seconds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Header = tuple[str, bytes | None]
Record = tuple[bytes | None, bytes | None, list[Header]]

MOMENT = "2026-01-03T10:00:00Z"

FULL_DATA: dict[str, dict[str, Any]] = {
    "order.placed": {
        "order_id": "1001",
        "customer_id": "c1",
        "placed_at": MOMENT,
        "currency": "EUR",
        "total": "139.12",
        "cost_of_goods": "80.5",
        "items": [
            {"sku": "A-1", "quantity": 2, "unit_price": "60.00"},
            {"sku": "B-2", "quantity": 1.5},
        ],
        "channel": "web",
        "revision": 3,
    },
    "order.refunded": {
        "refund_id": "r1",
        "order_id": "1001",
        "customer_id": "c1",
        "currency": "USD",
        "amount": "12.3456",
        "cost_recovered": "4",
        "refunded_at": MOMENT,
    },
    "order.cancelled": {"order_id": "1001", "customer_id": "c1", "cancelled_at": MOMENT},
    "ticket.opened": {
        "ticket_id": "t1",
        "customer_id": "c1",
        "opened_at": MOMENT,
        "channel": "phone",
        "topic": "delivery",
        "priority": "urgent",
        "complaint": True,
    },
    "ticket.resolved": {
        "ticket_id": "t1",
        "customer_id": "c1",
        "resolved_at": MOMENT,
        "handling_minutes": 12.5,
        "cost": "7.25",
        "currency": "GBP",
    },
    "ticket.rated": {
        "ticket_id": "t1",
        "customer_id": "c1",
        "rated_at": MOMENT,
        "score": 4,
        "scale": {"min": 1, "max": 5},
    },
    "survey.answered": {
        "survey_id": "s1",
        "customer_id": "c1",
        "answered_at": MOMENT,
        "kind": "nps",
        "score": 9,
        "scale": {"min": 0, "max": 10},
    },
    "customer.acquired": {
        "customer_id": "c1",
        "acquired_at": MOMENT,
        "cost": "25.00",
        "currency": "EUR",
        "channel": "search",
        "campaign": "spring",
    },
    "customer.merged": {"customer_id": "c1", "merged_from": "c2", "merged_at": MOMENT},
    "customer.erased": {"customer_id": "c1", "erased_at": MOMENT},
}
"""The data of one valid event of each type, with every field set."""

KEYED_BY_RECORD = (
    "order.refunded",
    "order.cancelled",
    "ticket.opened",
    "ticket.resolved",
    "ticket.rated",
    "survey.answered",
)
"""Types whose data may leave it to the record's key to say whose event it is."""

STRUCTURED: list[Header] = [("content-type", b"application/cloudevents+json; charset=utf-8")]

_SCALARS = (
    "null true false 0 -0 -1 1 0.5 1e999 -1e999 1e-999 NaN Infinity -Infinity 9223372036854775808 "
    '1e308 -1e308 1E+2 01 .5 "" " " "0" "1" "-1" "1e5" "NaN" "inf" "1.23456" "1234567890" "1." '
    '"\\u0000" "\\u00a0" "\\ud800" "\\ud83d\\ude00" "null" "1700000000" "2026-01-03" '
    '"2026-01-03T10:00:00" "0000-01-01T00:00:00Z" "9999-12-31T23:59:59Z" '
    '"9998-12-31T23:59:59-23:59" "1969-12-31T23:59:59Z" "2026-02-30T00:00:00Z" '
    '"2026-01-03T10:00:00+99:99" "2016-12-31T23:59:60Z" "eur" "EUR" "XXX" "BTC" "order.placed" '
    '[] [[]] [null] {} {"a":{}} {"min":1,"max":1} {"min":-1e308,"max":1e308}'
)
HOSTILE_JSON: list[bytes] = [
    *(scalar.encode() for scalar in _SCALARS.split()),
    b'"2026-01-03 10:00:00+00:00"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\x00"',
    b'"a\nb"',
    b'"' + "é".encode() * 200 + b'"',
    b'"' + b"x" * 201 + b'"',
    b'"' + b"9" * 400 + b'"',
    b"9" * 400,
    b"9" * 4_300,
    b"9" * 5_000,
    b"0." + b"3" * 400,
    b"[" * 150 + b"]" * 150,
    b"[" * 500 + b"]" * 500,
    b"[" * 3_000,
    b'{"a":' * 300 + b"1" + b"}" * 300,
    b"[" + b",".join([b'{"sku":"a","quantity":1}'] * 1_001) + b"]",
    b"[" + b",".join([b"{}"] * 1_001) + b"]",
]
"""What may stand where a value belongs; some of it is not JSON at all."""

_TOKENS = [*HOSTILE_JSON[:40], b"", b'"', b"\\", b"{", b"}", b",", b":", b"\x00", b"\xff", b"\xc3"]
_MEDIA_TYPES = [
    None,
    b"",
    b"application/json",
    b"APPLICATION/JSON; charset=UTF-8",
    b"application/cloudevents",
    b"Application/CloudEvents+JSON",
    b"application/cloudevents+avro",
    b"application/cloudevents-batch+json",
    b"text/plain",
    b"\xff\xfe",
]
_KEYS = [None, b"", b"c1", b" ", b"\x00", b"\xff", b"k" * 201, "ключ".encode(), b"\xed\xa0\x80"]
_HOLE = "\ue000"


def _dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def envelope(kind: str, data: Any) -> dict[str, Any]:
    """A valid envelope around data."""
    return {
        "specversion": "1.0",
        "id": "a1",
        "source": "/shop/eu",
        "type": kind,
        "time": MOMENT,
        "datacontenttype": "application/json",
        "data": data,
    }


def binary_headers(kind: str) -> list[Header]:
    """The headers of a valid event in binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"a1"),
        ("ce_source", b"/shop/eu"),
        ("ce_type", kind.encode()),
        ("ce_time", MOMENT.encode()),
        ("content-type", b"application/json"),
    ]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, inner in items:
        yield (*path, key)
        yield from _paths(inner, (*path, key))


def _with(value: Any, path: tuple[Any, ...], replacement: Any) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(copy[path[0]], path[1:], replacement) if path[1:] else replacement
    return copy


def _holes(value: Any) -> Iterator[tuple[bytes, bytes]]:
    """The JSON text before and after each value in a value."""
    for path in _paths(value):
        before, after = _dumps(_with(value, path, _HOLE)).split(_dumps(_HOLE))
        yield before, after


def valid_records() -> list[Record]:
    """Valid events of every type in both modes: full, extended, and keyed by the record alone."""
    records: list[Record] = []
    for kind, full in FULL_DATA.items():
        for data in (full, {**full, "added_later": {"by": ["the", "publisher"]}}):
            records.append((b"c1", _dumps(envelope(kind, data)), STRUCTURED))
            records.append((b"c1", _dumps(envelope(kind, data)), []))
            records.append((b"c1", _dumps(data), binary_headers(kind)))
        if kind in KEYED_BY_RECORD:
            keyed = {name: value for name, value in full.items() if name != "customer_id"}
            records.append((b"c1", _dumps(envelope(kind, keyed)), STRUCTURED))
            records.append((b"c1", _dumps(keyed), binary_headers(kind)))
    return records


_VALID = valid_records()
_STRUCTURED_HOLES = [
    hole for kind, data in FULL_DATA.items() for hole in _holes(envelope(kind, data))
]
_BINARY_HOLES = [
    (*hole, binary_headers(kind)) for kind, data in FULL_DATA.items() for hole in _holes(data)
]
_WRONG_SHAPES = [
    *HOSTILE_JSON,
    *(_dumps(data) for data in FULL_DATA.values()),
    *(_dumps([envelope(kind, data)]) for kind, data in FULL_DATA.items()),
    *(_dumps(envelope(kind, [data])) for kind, data in FULL_DATA.items()),
    *(_dumps({**envelope(kind, data), "type": "order"}) for kind, data in FULL_DATA.items()),
]


def _valid(rng: random.Random) -> Record:
    _, value, headers = _pick(rng, _VALID)
    event, order, customer = (int(rng.random() * most) for most in (1_000_000, 10_000, 1_000))
    value = (
        value.replace(b'"a1"', b'"e%d"' % event)
        .replace(b'"1001"', b'"%d"' % order)
        .replace(b'"c1"', b'"customer-%d"' % customer)
    )
    headers = [(name, b"e%d" % event if name == "ce_id" else text) for name, text in headers]
    return b"customer-%d" % customer, value, headers


def _random_bytes(rng: random.Random) -> Record:
    return _pick(rng, _KEYS), rng.randbytes(int(rng.random() * 64)), _pick(rng, _VALID)[2]


def _wrong_shape(rng: random.Random) -> Record:
    return b"c1", _pick(rng, _WRONG_SHAPES), _pick(rng, _VALID)[2]


def _wrong_field(rng: random.Random) -> Record:
    if rng.random() < 0.5:
        before, after = _pick(rng, _STRUCTURED_HOLES)
        headers = STRUCTURED
    else:
        before, after, headers = _pick(rng, _BINARY_HOLES)
    return _pick(rng, _KEYS), before + _pick(rng, HOSTILE_JSON) + after, headers


def _duplicated_key(rng: random.Random) -> Record:
    before, after = _pick(rng, _STRUCTURED_HOLES)
    name = before[before.rfind(b",") + 1 :]
    return b"c1", before + b"1," + name + _pick(rng, HOSTILE_JSON) + after, STRUCTURED


def _mutated(rng: random.Random) -> Record:
    key, value, headers = _pick(rng, _VALID)
    assert value is not None
    return key, _pick(rng, _MUTATIONS)(rng, value), headers


def _wrong_headers(rng: random.Random) -> Record:
    _, value, headers = _pick(rng, _VALID)
    changed = list(headers)
    for _ in range(1 + int(rng.random() * 3)):
        choice = int(rng.random() * 5)
        if choice == 0:
            changed.append(("content-type", _pick(rng, _MEDIA_TYPES)))
        elif choice == 1 and changed:
            changed.pop(int(rng.random() * len(changed)))
        elif choice == 2 and changed:
            at = int(rng.random() * len(changed))
            changed[at] = (changed[at][0], None)
        elif choice == 3 and changed:
            at = int(rng.random() * len(changed))
            changed[at] = (changed[at][0], rng.randbytes(int(rng.random() * 8)))
        else:
            changed.append((_pick(rng, ("ce_type", "CE_ID", "ce_", "", "trace")), b"\xff"))
    return _pick(rng, _KEYS), _pick(rng, (value, value, None, b"")), changed


def _flip(rng: random.Random, value: bytes) -> bytes:
    flipped = bytearray(value)
    for _ in range(1 + int(rng.random() * 3)):
        flipped[int(rng.random() * len(flipped))] ^= 1 << int(rng.random() * 8)
    return bytes(flipped)


def _truncate(rng: random.Random, value: bytes) -> bytes:
    return value[: int(rng.random() * len(value))]


def _insert(rng: random.Random, value: bytes) -> bytes:
    at = int(rng.random() * len(value))
    return value[:at] + _pick(rng, _TOKENS) + value[at:]


def _cut(rng: random.Random, value: bytes) -> bytes:
    at = int(rng.random() * len(value))
    return value[:at] + value[at + int(rng.random() * 12) :]


def _repeat(rng: random.Random, value: bytes) -> bytes:
    at = int(rng.random() * len(value))
    return value[:at] + value[at : at + int(rng.random() * 40)] * 2 + value[at:]


def _splice(rng: random.Random, value: bytes) -> bytes:
    other = _pick(rng, _VALID)[1] or b""
    return value[: int(rng.random() * len(value))] + other[int(rng.random() * len(other)) :]


_MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _flip,
    _flip,
    _truncate,
    _insert,
    _cut,
    _repeat,
    _splice,
)

_MIX: list[Callable[[random.Random], Record]] = [
    *[_valid] * 10,
    *[_mutated] * 35,
    *[_wrong_field] * 25,
    *[_random_bytes] * 8,
    *[_wrong_shape] * 8,
    *[_wrong_headers] * 10,
    *[_duplicated_key] * 4,
]


def _pick(rng: random.Random, options: Any) -> Any:
    # Half the cost of random.choice, whose evenness to the last bit is not needed here.
    return options[int(rng.random() * len(options))]


def hostile_records(seed: int) -> Iterator[Record]:
    """Endless records (key, value, headers), the same for the same seed; one in ten is valid."""
    rng = random.Random(seed)
    while True:
        yield _pick(rng, _MIX)(rng)
