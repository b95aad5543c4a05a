"""Whether everything the service stores and publishes is what the published events come to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from models.aggregate.record import customers, is_customer
from models.aggregate.summary import Summary
from models.economics import MONEY_SCALE, Economics
from tests.faults.chains import check_chains
from tests.faults.histories import (
    changelog_version,
    find_untrue,
    in_order,
    last_records,
    update_version,
)
from tests.faults.observer import RedisState
from tests.faults.reckoner import Expected, Reckoning
from tests.faults.side_checks import check_letters, check_redis
from tests.faults.verdict import KafkaRecord, Verdict

COUNTS = ("orders", "refunds", "contacts")
AMOUNTS = (
    "purchase_days", "gross", "refunded", "complaints", "margin", "acquisition_cost",
    "cost_to_serve",
)  # fmt: skip
PLAIN = ("orders", "gross")


class Seen(NamedTuple):
    """What a store says of a customer. as_of: milliseconds since 1970."""

    version: int
    as_of: int | None
    numbers: Mapping[str, Decimal | int]
    segments: Mapping[str, str]


def judge(
    expected: Expected,
    changelog: Iterable[KafkaRecord],
    updates: Iterable[KafkaRecord],
    redis: RedisState,
    segment_changes: Iterable[KafkaRecord],
    dead_letters: Iterable[KafkaRecord],
    *,
    ticked_until: datetime | None = None,
    sealed: Sequence[bytes] = (),
    new_parameters: bool = False,
    partitions: int | None = None,
) -> Verdict:
    """Compare three stores with what was reckoned and with each other, and both logs beside them.

    The records are all of their topics; the service has worked on everything. ticked_until: the
    latest tick that was sent, if any. sealed: batches of which nothing may be read.
    new_parameters: others were published meanwhile, so that what is told again may have new values.
    partitions: how many there are, if they have grown.
    """
    verdict = Verdict(customers=len(expected.customers))
    changelog, updates = in_order(changelog, partitions), in_order(updates, partitions)
    stored = last_records(changelog, changelog_version, "changelog", verdict, partitions=partitions)
    published = last_records(
        updates, update_version, "updates", verdict, is_told=True, partitions=partitions
    )
    find_untrue(expected, changelog, updates, verdict)
    offsets = {record.key: record.offset for record in updates}
    stores = {
        "changelog": _from_changelog(expected, stored),
        "updates": {c: _from_document(v) for c, v in _own(expected, published)},
        "redis": {
            c: _from_document(fields["update"])
            for c, fields in redis.hashes.items()
            if c.startswith(expected.prefix)
        },
    }
    latest = 0 if ticked_until is None else round(ticked_until.timestamp() * 1000)
    compare(expected, stores, verdict, (*COUNTS, *AMOUNTS), latest)
    _agree(stores, published, offsets, redis, verdict)
    check_redis(redis, verdict)
    current = {c: seen.segments for c, seen in stores["changelog"].items()}
    check_chains(
        expected,
        in_order(segment_changes, partitions),
        current,
        verdict,
        new_parameters=new_parameters,
    )
    check_letters(expected, dead_letters, verdict, sealed)
    marks = {r.key: r.value or b"" for r in changelog if r.key and not is_customer(r.key)}
    _find_traces(expected, stored | marks, published, redis, verdict)
    return verdict


def judge_plain(
    expected: Expected,
    changelog: Iterable[KafkaRecord],
    updates: Iterable[KafkaRecord],
    redis: RedisState,
) -> Verdict:
    """Compare orders and their gross only, for a worker that stores sums as JSON."""
    verdict = Verdict(customers=len(expected.customers))
    last: dict[str, dict[bytes, bytes]] = {"changelog": {}, "updates": {}}
    for store, records in (("changelog", changelog), ("updates", updates)):
        for record in in_order(records):
            if record.key is not None and record.value is not None:
                last[store][record.key] = record.value
    stores = {
        store: {c: _from_sums(value) for c, value in _own(expected, values)}
        for store, values in last.items()
    }
    stores["redis"] = {
        c: _from_sums(fields["update"])
        for c, fields in redis.hashes.items()
        if c.startswith(expected.prefix)
    }
    compare(expected, stores, verdict, PLAIN, None)
    return verdict


def compare(
    expected: Expected,
    stores: Mapping[str, Mapping[str, Seen]],
    verdict: Verdict,
    names: Sequence[str],
    ticked: int | None,
) -> None:
    """Count what each store has too little, too much or wrong.

    ticked: the latest tick in milliseconds, 0 for none; None where times are not compared.
    """
    for customer, reckoning in expected.customers.items():
        lost, doubled = [0], [0]
        said: defaultdict[str, list[str]] = defaultdict(list)
        for store, held in stores.items():
            seen = held.get(customer)
            if seen is None:
                missing, surplus, wrong = {"all": reckoning.events}, {}, []
            else:
                missing, surplus = _differences(reckoning, seen, names)
                wrong = _wrong_values(reckoning, seen, names, ticked)
            lost.append(sum(missing.values()))
            doubled.append(sum(surplus.values()))
            verdict.by_store[store] += Counter(lost=lost[-1], doubled=doubled[-1])
            verdict.wrong += len(wrong)
            told = [f"missing {missing}"] if missing else []
            told += [f"surplus {surplus}"] if surplus else []
            if told := "; ".join(told + wrong):
                said[told].append(store)
        verdict.lost += max(lost)
        verdict.doubled += max(doubled)
        long = ", whose history is long" if customer in expected.long else ""
        for told, where in said.items():
            verdict.tell(f"{customer}{long}, in {', '.join(where)}: {told}")
    for store, held in stores.items():
        for customer in held.keys() - expected.customers.keys():
            if customer not in expected.merged.values():
                verdict.note("wrong", f"{store} {customer}: there should be no such customer")


def _differences(
    reckoning: Reckoning, seen: Seen, names: Sequence[str]
) -> tuple[dict[str, int], dict[str, int]]:
    more = {n: int(seen.numbers[n]) - getattr(reckoning, n) for n in COUNTS if n in names}
    missing = {name: -count for name, count in more.items() if count < 0}
    return missing, {name: count for name, count in more.items() if count > 0}


def _wrong_values(
    reckoning: Reckoning, seen: Seen, names: Sequence[str], ticked: int | None
) -> list[str]:
    """What is wrong beside the counts, in words."""
    wrong = [
        f"{name} is {_plainly(seen.numbers[name])}, should be {_plainly(right)}"
        for name in names
        if name not in COUNTS
        and abs(seen.numbers[name] - (right := getattr(reckoning, name))) > reckoning.rounding
    ]
    if seen.as_of is None or ticked is None:
        return wrong
    latest = max(reckoning.latest_event, ticked)
    if not reckoning.last_event <= seen.as_of <= latest:
        wrong.append(f"as of {seen.as_of}, should be {reckoning.last_event} to {latest}")
    return wrong


def _plainly(number: Decimal | int) -> str:
    return f"{Decimal(number).normalize():f}"


def _own(expected: Expected, values: Mapping[bytes, bytes]) -> list[tuple[str, bytes]]:
    prefix = expected.prefix.encode()
    return [(key.decode(), value) for key, value in values.items() if key.startswith(prefix)]


def _from_changelog(expected: Expected, stored: Mapping[bytes, bytes]) -> dict[str, Seen]:
    terms = expected.terms
    economics = Economics(currency=terms.currency, exchange_rates=dict(terms.rates))
    result: dict[str, Seen] = {}
    for key, record in customers(stored):
        customer = key.decode()
        if not customer.startswith(expected.prefix) or not record.segments:
            # Of another run, or nothing but a mark: no customer with a value.
            continue
        summary = Summary(record.aggregate, economics)
        money = {
            "gross": summary.gross, "refunded": summary.refunded,
            "margin": summary.margin(economics), "acquisition_cost": summary.acquisition_cost,
            "cost_to_serve": summary.support_cost,
        }  # fmt: skip
        numbers: dict[str, Decimal | int] = {
            name: getattr(summary, name) for name in (*COUNTS, "purchase_days", "complaints")
        }
        numbers |= {name: Decimal(units) / MONEY_SCALE for name, units in money.items()}
        result[customer] = Seen(record.version, record.as_of, numbers, record.segments)
    return result


def _from_document(value: bytes) -> Seen:
    data = json.loads(value, parse_float=Decimal)["data"]
    numbers = {**data["totals"], **data["realised"]}
    as_of = round(datetime.fromisoformat(data["as_of"]).timestamp() * 1000)
    return Seen(data["version"], as_of, numbers, data["segments"])


def _from_sums(value: bytes) -> Seen:
    document = json.loads(value, parse_float=Decimal)
    totals = document["data"]["totals"] if "data" in document else document
    return Seen(0, None, totals, {})


def _agree(
    stores: Mapping[str, Mapping[str, Seen]],
    published: Mapping[bytes, bytes],
    offsets: Mapping[bytes | None, int],
    redis: RedisState,
    verdict: Verdict,
) -> None:
    for customer in set().union(*stores.values()):
        versions = {
            store: seen.version
            for store, held in stores.items()
            if (seen := held.get(customer)) is not None
        }
        if len(versions) != len(stores) or len(set(versions.values())) > 1:
            verdict.note("disagreeing", f"{customer}: versions {versions}")
            continue
        key = customer.encode()
        held, last = int(redis.hashes[customer]["position"]), offsets[key]
        if (held, redis.hashes[customer]["update"]) != (last, published[key]):
            text = f"{customer}: Redis has the update at {held}, the last is another, at {last}"
            verdict.note("disagreeing", text)
        elif stores["changelog"][customer].segments != stores["updates"][customer].segments:
            verdict.note("disagreeing", f"{customer}: segments differ in changelog and updates")


def _find_traces(
    expected: Expected,
    stored: Mapping[bytes, bytes],
    published: Mapping[bytes, bytes],
    redis: RedisState,
    verdict: Verdict,
) -> None:
    """Look for the ids of the erased in the bytes of all that is stored now."""
    places = {
        "changelog": b"\n".join(part for pair in stored.items() for part in pair),
        "updates": b"\n".join(part for pair in published.items() for part in pair),
        "redis": b"\n".join(redis.raw),
    }
    for customer in sorted(expected.erased):
        for place, everything in places.items():
            if customer.encode() in everything:
                verdict.note("traces", f"{place}: still has the erased customer {customer}")
