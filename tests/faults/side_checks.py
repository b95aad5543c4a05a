"""What stands beside the customers: Redis' ranking, sets and totals, and the dead letters."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable

from models.contracts.dead_letters import (
    CUT,
    CUT_PARTS,
    EXCEPTION,
    OFFSET,
    PARTITION,
    PREFIX,
    TOPIC,
)
from tests.faults.observer import RedisState
from tests.faults.reckoner import REKEYED, Expected, Refusal
from tests.faults.verdict import KafkaRecord, Verdict, where


def check_redis(redis: RedisState, verdict: Verdict) -> None:
    """Whether ranking, sets and totals are those of the customers' hashes, all of them."""
    ranking: dict[str, float] = {}
    members: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    totals: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for customer, fields in redis.hashes.items():
        clv, data = float(fields["clv"]), json.loads(fields["update"])["data"]
        ranking[customer] = clv
        segments = json.loads(fields["segments"])
        if (data["customer_id"], data["clv"], data["segments"]) != (customer, clv, segments):
            verdict.note("redis_faults", f"{customer}: the hash does not match its update")
        for dimension, segment in segments.items():
            members[dimension, segment].add(customer)
            totals[dimension][f"{segment}:customers"] += 1
            totals[dimension][f"{segment}:value_cents"] += math.floor(clv * 100 + 0.5)
    for customer in ranking.keys() | redis.ranking.keys():
        held, right = redis.ranking.get(customer), ranking.get(customer)
        if held != right:
            verdict.note("redis_faults", f"ranking {customer}: {held}, should be {right}")
    for name in members.keys() | redis.members.keys():
        odd = members.get(name, set()) ^ redis.members.get(name, set())
        if odd:
            text = f"set {name}: {len(odd)} too many or missing, as {min(odd)}"
            verdict.note("redis_faults", text)
    for dimension in totals.keys() | redis.totals.keys():
        held_totals, right_totals = redis.totals.get(dimension, {}), totals.get(dimension, {})
        for name in held_totals.keys() | right_totals.keys():
            found, due = held_totals.get(name, 0), right_totals.get(name, 0)
            if found != due:
                text = f"totals {dimension} {name}: {found}, should be {due}"
                verdict.note("redis_faults", text)


def check_letters(
    expected: Expected, dead_letters: Iterable[KafkaRecord], verdict: Verdict
) -> None:
    """Whether every refusal has its letters, byte for byte, and nothing else has one."""
    origins: defaultdict[Refusal, set[tuple[bytes, ...]]] = defaultdict(set)
    for letter in dead_letters:
        refusal, origin = _read_letter(letter)
        if refusal in expected.refused:
            if origin in origins[refusal]:
                verdict.letters_again += 1
            origins[refusal].add(origin)
        elif refusal.value in expected.accepted:
            verdict.note("wrong_letters", f"{where(letter)}: {refusal.reason}, but acceptable")
        elif _is_of(expected, refusal):
            text = f"{where(letter)}: {refusal.reason} is not expected of {refusal.value[:80]!r}"
            verdict.note("wrong_letters", text)
    for refusal, count in expected.refused.items():
        missing = count - len(origins[refusal])
        if missing > 0:
            text = f"{missing} letters of {refusal.reason} for {refusal.value[:80]!r}"
            verdict.note("missing_letters", text, missing)


def _is_of(expected: Expected, refusal: Refusal) -> bool:
    run = expected.run_id.encode()
    if not run or (refusal.key or b"").startswith(run + b"-"):
        return True
    return any(b'"' + run + mark in refusal.value for mark in (b"-", b"/"))


def _read_letter(letter: KafkaRecord) -> tuple[Refusal, tuple[bytes, ...]]:
    added = dict(letter.headers)
    original = tuple(
        (name, value)
        for name, value in letter.headers
        if not name.startswith(PREFIX) and name not in (REKEYED, CUT, CUT_PARTS)
    )
    reason = added.get(EXCEPTION, b"").decode().removeprefix("clv.refused.")
    refusal = Refusal(letter.key, letter.value or b"", original, reason)
    return refusal, tuple(added.get(name, b"") for name in (TOPIC, PARTITION, OFFSET))
