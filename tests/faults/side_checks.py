"""What stands beside the customers: Redis' ranking, sets and totals, and the dead letters."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from models.contracts.dead_letters import EXCEPTION, MESSAGE, OFFSET, PARTITION, PREFIX, TOPIC
from models.routing import ROUTE
from tests.faults.observer import RedisState
from tests.faults.packing import SET_BY_THE_BROKER
from tests.faults.published import read_event
from tests.faults.reckoner import Expected, OrderName, Refusal
from tests.faults.verdict import KafkaRecord, Verdict, where

OWN = "clv."
"""What the names of headers begin with that the service writes, and publishers leave alone."""

TOO_LARGE = b"clv.refused.too-large"
NOTICE = "clv.notice."
REFUND_BEYOND_TOTAL = NOTICE + "refund-beyond-total"

EXCERPT = 300
"""Bytes of a record that are told of."""


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
    expected: Expected,
    dead_letters: Iterable[KafkaRecord],
    verdict: Verdict,
    sealed: Sequence[bytes] = (),
) -> None:
    """Whether every refusal has its letters, byte for byte, and nothing else has one.

    Notices are held to what they may and must be about.

    sealed: batches that were not read; each must be the value of a letter.
    """
    dead_letters = list(dead_letters)
    _check_sealed(sealed, dead_letters, verdict)
    origins: defaultdict[Refusal, set[tuple[bytes, ...]]] = defaultdict(set)
    wrong: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    noticed: set[OrderName] = set()
    for letter in dead_letters:
        refusal, origin = _read_letter(letter)
        if refusal.reason.startswith(NOTICE):
            name = _noticed(expected, refusal)
            if name in expected.perhaps_refunded_beyond:
                noticed.add(name)
            elif _is_of(expected, refusal):
                what = f"{refusal.reason} of {name} is not expected"
                wrong[_whose(refusal), what].append(f"{where(letter)} {_told(letter)}")
        elif refusal in expected.refused:
            if origin in origins[refusal]:
                verdict.letters_again += 1
            origins[refusal].add(origin)
        elif refusal in expected.optional:
            verdict.optional_letters += 1
        elif refusal.value in expected.accepted:
            what = f"{refusal.reason}, but acceptable"
            wrong[_whose(refusal), what].append(f"{where(letter)} {_told(letter)}")
        elif _is_of(expected, refusal):
            what = f"{refusal.reason} is not expected"
            wrong[_whose(refusal), what].append(f"{where(letter)} {_told(letter)}")
    for (whose, what), those in wrong.items():
        verdict.note("wrong_letters", f"{whose}: {what}: {_some(those)}", len(those))
    missing: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for refusal, count in expected.refused.items():
        lacking = max(count - len(origins[refusal]), 0)
        text = repr(refusal.value[:EXCERPT])
        missing[_whose(refusal), refusal.reason] += [text] * lacking
    for name in expected.refunded_beyond - noticed:
        missing[name[0], REFUND_BEYOND_TOTAL].append(f"order {name[2]} of {name[1]}")
    for (whose, reason), those in missing.items():
        if those:
            text = f"{whose}: no letter says {reason}: {_some(those)}"
            verdict.note("missing_letters", text, len(those))


def _noticed(expected: Expected, refusal: Refusal) -> OrderName | None:
    """The order that a notice is about, if its refunds are what it is about."""
    if refusal.reason != REFUND_BEYOND_TOTAL:
        return None
    event = read_event(refusal.key, refusal.value, refusal.headers)
    person = expected.merged.get(event.customer, event.customer)
    return person, event.source, event.data["order_id"]


def _check_sealed(
    sealed: Sequence[bytes], dead_letters: Iterable[KafkaRecord], verdict: Verdict
) -> None:
    found = {
        (letter.value or b"")[SET_BY_THE_BROKER:]
        for letter in dead_letters
        if dict(letter.headers).get(EXCEPTION) == TOO_LARGE
    }
    for batch in sealed:
        if batch[SET_BY_THE_BROKER:] not in found:
            text = f"a batch of {len(batch)} bytes that unpacks too far: no letter says too-large"
            verdict.note("missing_letters", text)


def _whose(refusal: Refusal) -> str:
    return "nobody's" if refusal.key is None else refusal.key.decode(errors="replace")


def _some(those: list[str]) -> str:
    return f"{len(those)}, as {those[0]}" if len(those) > 1 else those[0]


def _told(letter: KafkaRecord) -> str:
    """What the letter says, and of which event."""
    added = dict(letter.headers)
    message, value = added.get(MESSAGE, b"").decode(errors="replace"), letter.value or b""
    came_from = added.get(ROUTE, b"").decode(errors="replace")
    return f"{message!r} for {value[:EXCERPT]!r}" + (
        f", sent on from {came_from}" if came_from else ""
    )


def _is_of(expected: Expected, refusal: Refusal) -> bool:
    run = expected.run_id.encode()
    if not run or (refusal.key or b"").startswith(run + b"-"):
        return True
    return any(b'"' + run + mark in refusal.value for mark in (b"-", b"/"))


def _read_letter(letter: KafkaRecord) -> tuple[Refusal, tuple[bytes, ...]]:
    added = dict(letter.headers)
    original = tuple(
        (name, value) for name, value in letter.headers if not name.startswith((PREFIX, OWN))
    )
    reason = added.get(EXCEPTION, b"").decode().removeprefix("clv.refused.")
    refusal = Refusal(letter.key, letter.value or b"", original, reason)
    return refusal, tuple(added.get(name, b"") for name in (TOPIC, PARTITION, OFFSET))
