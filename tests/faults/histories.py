"""The changelog and the updates as they grew: nothing goes back, or is told but not stored."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import datetime

from models.aggregate.record import decode_record, is_customer
from streams.kafka.partitions import home_partition
from tests.faults.reckoner import Expected
from tests.faults.verdict import KafkaRecord, Verdict, where

Version = tuple[int, int]
"""A version, and as of when, in milliseconds since 1970: in silence only the time moves on."""

NONE: Version = (-1, 0)


def in_order(records: Iterable[KafkaRecord], partitions: int | None = None) -> list[KafkaRecord]:
    """The records by partition and offset.

    partitions: how many there are since they have grown; what is in a key's home then comes after
    what was in its former one.
    """

    def place(record: KafkaRecord) -> tuple[bool, int, int]:
        home = partitions and record.key and home_partition(record.key, partitions)
        return home == record.partition, record.partition, record.offset

    return sorted(records, key=place)


def last_records(
    records: Iterable[KafkaRecord],
    version_of: Callable[[bytes], Version],
    store: str,
    verdict: Verdict,
    *,
    is_told: bool = False,
    partitions: int | None = None,
) -> dict[bytes, bytes]:
    """The value of each key that has one; notes what went back since the key's last tombstone.

    is_told: two records of one version must be the same to the last byte, unless they were valued
    with different parameters. partitions: as in `in_order`.
    """
    last: dict[bytes, bytes] = {}
    newest: dict[bytes, Version] = {}
    before: defaultdict[bytes, dict[Version, set[bytes]]] = defaultdict(lambda: defaultdict(set))
    held_in: dict[bytes, int] = {}
    for record in in_order(records, partitions):
        key = record.key
        if key is None or not is_customer(key):
            continue
        if partitions and home_partition(key, partitions) == record.partition:
            held_in[key] = record.partition
        if held_in.setdefault(key, record.partition) != record.partition:
            verdict.note("wrong", f"{store} {key!r}: in two partitions, {where(record)}")
        if record.value is None:
            for known in (last, newest, before):
                known.pop(key, None)
            continue
        version = version_of(record.value)
        if record.value in before[key][version]:
            verdict.republished += is_told
        elif version < newest.get(key, NONE):
            text = f"{store} {key!r} {where(record)}: version {version} after {newest[key]}"
            verdict.note("went_back", text)
        elif is_told and (others := _of_one_model(record.value, before[key][version])):
            text = (
                f"{store} {key!r} {where(record)}: another version {version} was there: "
                f"{differences(others[0], record.value)}"
            )
            verdict.note("contradicted", text)
        before[key][version].add(record.value)
        newest[key] = max(newest.get(key, NONE), version)
        last[key] = record.value
    for key, value in last.items():
        if (version := version_of(value)) < newest[key]:
            text = f"{store} {key!r}: ends with version {version} after {newest[key]}"
            verdict.note("went_back", text)
    return last


def find_untrue(
    expected: Expected,
    changelog: Iterable[KafkaRecord],
    updates: Iterable[KafkaRecord],
    verdict: Verdict,
) -> None:
    """Look for updates of this run that tell of what was never stored."""
    prefix = expected.prefix.encode()
    stored = {
        (record.key, changelog_version(record.value))
        for record in changelog
        if record.key and record.value and record.key.startswith(prefix) and is_customer(record.key)
    }
    for record in updates:
        if record.key is None or record.value is None or not record.key.startswith(prefix):
            continue
        if (record.key, version := update_version(record.value)) not in stored:
            text = f"{record.key!r} {where(record)}: version {version} was never stored"
            verdict.note("not_stored", text)


def changelog_version(value: bytes) -> Version:
    """The version that a stored record has, and as of when its value was published."""
    record = decode_record(value)
    return record.version, record.told_at


def update_version(value: bytes) -> Version:
    """The version that a value update says."""
    data = json.loads(value)["data"]
    as_of = datetime.fromisoformat(data["as_of"])
    return data["version"], round(as_of.timestamp() * 1000)


def _of_one_model(value: bytes, others: Iterable[bytes]) -> list[bytes]:
    """Those of the other updates that were valued as this one was."""
    return [other for other in others if _model(other) == _model(value)]


def differences(one: bytes, other: bytes) -> str:
    """Where two JSON documents differ: each field with what either says."""
    left, right = _fields(json.loads(one)), _fields(json.loads(other))
    return ", ".join(
        f"{name} {left.get(name)!r} and {right.get(name)!r}"
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name)
    )


def _fields(document: object, path: str = "") -> dict[str, object]:
    if not isinstance(document, dict):
        return {path: document}
    return {
        name: held
        for key, each in document.items()
        for name, held in _fields(each, f"{path}.{key}").items()
    }


def _model(value: bytes) -> object:
    """The model by which an update was valued, and the version of its parameters."""
    return json.loads(value)["data"]["model"]
