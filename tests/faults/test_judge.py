"""The judge finds every fault that is planted, and nothing where nothing is wrong."""

import asyncio
import json
from copy import deepcopy
from dataclasses import replace
from decimal import Decimal

import pytest
from aiokafka.record.memory_records import MemoryRecords

from models.aggregate.record import decode_record
from models.contracts.dead_letters import EXCEPTION
from streams.kafka.partitions import home_partition
from tests.faults.histories import Version, in_order, last_records
from tests.faults.judge import judge, judge_plain
from tests.faults.long_histories import ATTEMPT
from tests.faults.observer import RedisState
from tests.faults.offline import NOW, TERMS, Logged, Logs, cache, run, workload
from tests.faults.packing import Packed, gzip_batch
from tests.faults.reckoner import Expected, reckon
from tests.faults.side_checks import check_letters
from tests.faults.verdict import Verdict

BEYOND = b"clv.notice.refund-beyond-total"
AMBIGUOUS = b"clv.notice.ambiguous"
MADE = workload(events=800, customers=30)
EXPECTED = reckon(MADE.events, TERMS, NOW, "run1")


@pytest.fixture(scope="module")
def finished() -> tuple[Logs, RedisState]:
    logs = run(MADE.items)
    return logs, asyncio.run(cache(logs.scores))


@pytest.fixture
def world(finished) -> tuple[Logs, RedisState]:
    return deepcopy(finished)


def verdict_on(logs: Logs, redis: RedisState, expected=EXPECTED):
    return judge(
        expected, logs.changelog, logs.updates, redis, logs.segment_changes, logs.dead_letters
    )


def test_the_judge_finds_nothing_where_nothing_is_wrong(world):
    verdict = verdict_on(*world)
    assert verdict.ok, str(verdict)
    assert verdict.customers == 30
    assert (verdict.republished, verdict.changes_again, verdict.letters_again) == (0, 0, 0)


@pytest.fixture(scope="module")
def changed() -> tuple[Logs, RedisState, Expected]:
    made = workload(events=1_000, customers=40, identity=True)
    logs = run(made.items)
    return logs, asyncio.run(cache(logs.scores)), reckon(made.events, TERMS, NOW, "run1")


def test_the_judge_finds_nothing_where_customers_are_merged_and_erased(changed):
    logs, redis, expected = changed
    verdict = verdict_on(logs, redis, expected)
    assert verdict.ok, str(verdict)
    assert expected.erased
    assert expected.forgotten - expected.erased
    assert len(expected.merged) > len(set(expected.merged.values()))


@pytest.mark.parametrize("seed", range(3))
def test_the_judge_finds_nothing_in_long_histories_and_erasures_between_events(seed: int):
    made = workload(seed, events=400, customers=30, long_histories=3, erased_midway=10)
    logs = run(made.items)
    expected = reckon(made.events, TERMS, NOW, "run1")
    verdict = verdict_on(logs, asyncio.run(cache(logs.scores)), expected)
    assert verdict.ok, str(verdict)
    assert expected.long
    assert verdict.optional_letters


def test_a_letter_for_what_counts_is_found_among_those_that_may_be():
    """The letter of a duplicate is no fault, and that of the first is one."""
    made = workload(events=100, long_histories=1)
    expected = reckon(made.events, TERMS, NOW, "run1")
    logs = run(made.items)
    redis = asyncio.run(cache(logs.scores))
    letter = next(r for r in logs.dead_letters if EXCEPTION in dict(r.headers))
    again = min(r for r in expected.optional if r.headers[-1][0] == ATTEMPT)
    first = again._replace(headers=again.headers[:-1])
    for refusal, faults in ((again, {}), (first, {"wrong_letters": 1})):
        added = [*refusal.headers, (EXCEPTION, b"clv.refused.beyond-memory")]
        forged = letter._replace(
            offset=10_000, key=refusal.key, value=refusal.value, headers=tuple(added)
        )
        more = replace(logs, dead_letters=[*logs.dead_letters, forged])
        assert verdict_on(more, redis, expected).faults == faults


def test_a_merged_customer_who_is_still_there_is_found(changed):
    logs, redis, expected = deepcopy(changed)
    name = next(name for name in expected.merged if f"{name}".encode() in b"".join(
        r.key for r in logs.updates if r.value is not None))  # fmt: skip
    last = max(r for r in logs.updates if r.key == name.encode() and r.value is not None)
    logs.updates.append(last._replace(offset=len(logs.updates)))
    assert verdict_on(logs, redis, expected).faults == {"wrong": 1, "disagreeing": 1}


def test_an_erased_customer_who_comes_back_is_found(changed):
    logs, redis, expected = deepcopy(changed)
    name = min(expected.erased)
    old = [r for r in logs.changelog if r.key == name.encode() and r.value is not None]
    logs.changelog.append(old[-1]._replace(offset=len(logs.changelog)))
    verdict = verdict_on(logs, redis, expected)
    assert verdict.traces == 1
    assert verdict.wrong == 1


def without(position: int):
    return MADE.items[:position] + MADE.items[position + 1 :]


def first_order() -> int:
    """The place of an order that nothing else in the workload says anything about."""
    for position, (made, _) in enumerate(MADE.items):
        if b'"order.placed"' not in made.value:
            continue
        fewer = reckon([i.event for i in without(position)], TERMS, NOW, "run1")
        lost = sum(d.orders for d in EXPECTED.customers.values()) - sum(
            d.orders for d in fewer.customers.values()
        )
        if lost == 1 and len(fewer.customers) == len(EXPECTED.customers):
            return position
    raise AssertionError("no such order")


async def test_one_lost_event_is_found():
    logs = run(without(first_order()))
    verdict = verdict_on(logs, await cache(logs.scores))
    assert verdict.lost == 1
    assert {store: counts["lost"] for store, counts in verdict.by_store.items()} == {
        "changelog": 1, "updates": 1, "redis": 1,
    }  # fmt: skip
    assert verdict.wrong > 0


async def test_one_event_counted_twice_is_found():
    again = MADE.items[first_order()]
    document = again.event.value.replace(b'"order_id":"', b'"order_id":"again')
    logs = run([*MADE.items, again._replace(event=again.event._replace(value=document))])
    verdict = verdict_on(logs, await cache(logs.scores))
    assert verdict.doubled == 1
    assert verdict.lost == 0


def versions(log: list[Logged]) -> tuple[int, int]:
    """Positions of a customer's last record, and of one with a lower version before it."""
    for last in range(len(log) - 1, 0, -1):
        for before in range(last - 1, -1, -1):
            if log[before].key == log[last].key:
                return last, before
    raise AssertionError("nobody has two records")


@pytest.mark.parametrize("log", ["changelog", "updates"])
def test_an_older_version_at_the_end_is_found(world, log: str):
    logs, redis = world
    records = getattr(logs, log)
    _, before = versions(records)
    older = records[before]
    records.append(older._replace(offset=len(records)))
    verdict = verdict_on(logs, redis)
    assert verdict.went_back == 1
    assert verdict.republished == (log == "updates")
    assert verdict.disagreeing == 1


def test_an_older_version_in_between_is_told_from_one_at_the_end(world):
    logs, redis = world
    last, before = versions(logs.updates)
    count = len(logs.updates)
    logs.updates.append(logs.updates[before]._replace(offset=count))
    logs.updates.append(logs.updates[last]._replace(offset=count + 1))
    redis.hashes[logs.updates[last].key.decode()]["position"] = b"%d" % (count + 1)
    verdict = verdict_on(logs, redis)
    assert verdict.ok, str(verdict)
    assert verdict.republished == 2
    changed = json.loads(logs.updates[before].value)
    changed["data"]["clv"] += 1
    logs.updates[count] = logs.updates[count]._replace(value=json.dumps(changed).encode())
    assert verdict_on(logs, redis).faults == {"went_back": 1}


def test_two_updates_of_one_version_that_say_different_things_are_found(world):
    logs, redis = world
    last, _ = versions(logs.updates)
    changed = json.loads(logs.updates[last].value)
    changed["data"]["clv"] += 1
    other = logs.updates[last]._replace(value=json.dumps(changed).encode())
    logs.updates.insert(last, other)
    verdict = verdict_on(logs, redis)
    assert verdict.faults == {"contradicted": 1}
    clv = changed["data"]["clv"]
    assert any(f".data.clv {clv!r} and {clv - 1!r}" in text for text in verdict.details)


def test_two_updates_of_one_version_may_differ_by_their_parameters(world):
    logs, redis = world
    last, _ = versions(logs.updates)
    changed = json.loads(logs.updates[last].value)
    changed["data"]["clv"] += 1
    changed["data"]["model"]["version"] = "fitted since"
    other = logs.updates[last]._replace(value=json.dumps(changed).encode())
    logs.updates.insert(last, other)
    assert verdict_on(logs, redis).ok


def test_a_change_told_again_with_other_parameters_has_the_same_segments(world):
    logs, redis = world
    change = next(r for r in logs.segment_changes if b'"clv.segment-changed"' in r.value)
    for name, other, ok in (("clv_after", 1.5, True), ("current", "active again", False)):
        told = json.loads(change.value)
        told["data"][name] = other
        again = change._replace(offset=10_000, value=json.dumps(told).encode())
        changes = [*logs.segment_changes, again]
        found = judge(
            EXPECTED, logs.changelog, logs.updates, redis, changes, logs.dead_letters,
            new_parameters=True,
        )  # fmt: skip
        assert found.ok == ok, str(found)
        assert verdict_on(replace(logs, segment_changes=changes), redis).broken_chains == 1


def test_what_is_at_home_comes_after_what_was_in_the_former_partition():
    moved = next(key for key in (b"%d" % n for n in range(99)) if home_partition(key, 8) == 4)
    at_home, before = Logged(4, 0, moved, b"b"), Logged(0, 7, moved, b"a")
    tombstone = Logged(0, 8, moved, None)
    assert in_order([tombstone, at_home, before], 8) == [before, tombstone, at_home]

    def version(value: bytes) -> Version:
        return len(value), 0

    verdict = Verdict()
    found = last_records([tombstone, at_home, before], version, "log", verdict, partitions=8)
    assert found == {moved: b"b"}
    assert verdict.ok
    last_records([before, at_home], version, "log", verdict)
    assert verdict.wrong == 1


def test_a_batch_that_was_not_read_must_come_back_whole(world):
    logs, _ = world
    batch = gzip_batch([Packed(b"x", b" " * 1_000_000)] * 50)
    letter = logs.dead_letters[0]._replace(
        key=None, value=b"moved" + batch[5:], headers=((EXCEPTION, b"clv.refused.too-large"),)
    )
    for letters, faults in ((logs.dead_letters, {"missing_letters": 1}), ([letter], {})):
        verdict = Verdict()
        check_letters(Expected(TERMS), letters, verdict, [batch])
        assert {n: c for n, c in verdict.faults.items() if n == "missing_letters"} == faults


def test_a_batch_made_by_hand_is_one_that_a_consumer_reads():
    records = MemoryRecords(gzip_batch([Packed(b"k", b"v", 3), Packed(None, b"w")]))
    read = [(r.offset, r.key, r.value, len(r.headers)) for r in records.next_batch()]
    assert read == [(0, b"k", b"v", 3), (1, None, b"w", 0)]


def test_an_update_that_was_never_stored_is_found(world):
    logs, redis = world
    last, before = versions(logs.updates)
    key, version = (
        logs.updates[before].key,
        json.loads(logs.updates[before].value)["data"]["version"],
    )
    assert key == logs.updates[last].key
    logs.changelog = [
        r for r in logs.changelog if r.key != key or decode_record(r.value).version != version
    ]
    assert verdict_on(logs, redis).faults == {"not_stored": 1}


def test_a_missing_dead_letter_is_found(world):
    logs, redis = world
    del logs.dead_letters[5]
    assert verdict_on(logs, redis).faults == {"missing_letters": 1}


def test_a_dead_letter_with_another_reason_or_other_bytes_is_found(world):
    logs, redis = world
    at = next(n for n, letter in enumerate(logs.dead_letters) if b"run1-" in (letter.key or b""))
    letter = logs.dead_letters[at]
    headers = [(n, b"clv.refused.batch" if n == EXCEPTION else v) for n, v in letter.headers]
    logs.dead_letters[at] = letter._replace(headers=tuple(headers))
    assert verdict_on(logs, redis).faults == {"missing_letters": 1, "wrong_letters": 1}
    logs.dead_letters[at] = letter._replace(value=letter.value + b" ")
    assert verdict_on(logs, redis).faults == {"missing_letters": 1, "wrong_letters": 1}


def test_a_dead_letter_of_an_acceptable_event_is_found(world):
    logs, redis = world
    value = min(EXPECTED.accepted)
    letter = logs.dead_letters[0]
    logs.dead_letters.append(letter._replace(value=value, offset=len(logs.dead_letters)))
    assert verdict_on(logs, redis).faults == {"wrong_letters": 1}


def test_a_notice_that_is_missing_or_not_due_is_found(world):
    logs, redis = world
    due = {name[2] for name in EXPECTED.refunded_beyond}
    notices = [each for each in logs.dead_letters if dict(each.headers)[EXCEPTION] == BEYOND]
    assert due
    assert len(notices) > len(due)
    logs.dead_letters[:] = [each for each in logs.dead_letters if each not in notices]
    assert verdict_on(logs, redis).faults == {"missing_letters": len(EXPECTED.refunded_beyond)}
    logs.dead_letters += notices
    assert verdict_on(logs, redis).ok
    value = notices[0].value.replace(b'"order_id":"', b'"order_id":"not-')
    logs.dead_letters.append(notices[0]._replace(value=value))
    assert verdict_on(logs, redis).faults == {"wrong_letters": 1}
    headers = [(n, AMBIGUOUS if n == EXCEPTION else v) for n, v in notices[0].headers]
    logs.dead_letters[-1] = notices[0]._replace(headers=tuple(headers))
    assert verdict_on(logs, redis).faults == {"wrong_letters": 1}


def test_a_redis_that_has_another_record_of_the_same_bytes_is_found(world):
    logs, redis = world
    redis.hashes[min(redis.hashes)]["position"] += b"0"
    assert verdict_on(logs, redis).faults == {"disagreeing": 1}


async def test_a_redis_that_is_behind_is_found(finished):
    logs, _ = finished
    last, _ = versions(logs.updates)
    behind = [score for score in logs.scores if score.update != logs.updates[last].value]
    assert len(behind) == len(logs.scores) - 1
    verdict = verdict_on(logs, await cache(behind))
    assert verdict.disagreeing == 1
    assert verdict.redis_faults == 0
    assert not verdict.ok


@pytest.mark.parametrize("part", ["ranking", "members", "totals", "hash"])
def test_redis_that_contradicts_itself_is_found(world, part: str):
    logs, redis = world
    customer = min(redis.hashes)
    if part == "ranking":
        redis.ranking[customer] += 0.01
    elif part == "members":
        redis.members[min(redis.members)].pop()
    elif part == "totals":
        dimension = min(redis.totals)
        redis.totals[dimension][min(redis.totals[dimension])] += 1
    else:
        redis.hashes[customer]["segments"] = b'{"tier": "platinum"}'
    verdict = verdict_on(logs, redis)
    assert verdict.redis_faults >= 1
    assert verdict.faults.keys() == {"redis_faults"}


def test_a_customer_that_is_missing_or_too_many_is_found(world):
    logs, redis = world
    customer = min(redis.hashes)
    fewer = {c: d for c, d in EXPECTED.customers.items() if c != customer}
    assert verdict_on(logs, redis, replace(EXPECTED, customers=fewer)).wrong == 3
    logs.updates = [r for r in logs.updates if r.key != customer.encode()]
    verdict = verdict_on(logs, redis)
    assert verdict.lost == EXPECTED.customers[customer].events
    assert verdict.disagreeing == 1


def test_a_wrong_sum_under_a_right_count_is_found(world):
    logs, redis = world
    customer, due = next((c, d) for c, d in EXPECTED.customers.items() if d.orders)
    changed = replace(due, gross=due.gross + Decimal("0.0001"))
    expected = replace(EXPECTED, customers=EXPECTED.customers | {customer: changed})
    assert verdict_on(logs, redis, expected).faults == {"wrong": 3}


def test_a_lost_segment_change_is_found(world):
    logs, redis = world
    middle = [
        n for n, record in enumerate(logs.segment_changes)
        if json.loads(record.value)["data"]["previous"] is not None
    ]  # fmt: skip
    del logs.segment_changes[middle[0]]
    assert verdict_on(logs, redis).faults == {"broken_chains": 1}


def test_a_lost_last_segment_change_is_found(world):
    logs, redis = world
    last = logs.segment_changes.pop()
    assert json.loads(last.value)["type"] == "clv.segment-changed"
    assert verdict_on(logs, redis).faults == {"broken_chains": 1}


def test_segment_changes_sent_twice_are_no_fault(world):
    logs, redis = world
    count = len(logs.segment_changes)
    again = [r._replace(offset=count + n) for n, r in enumerate(logs.segment_changes)]
    logs.segment_changes += again
    verdict = verdict_on(logs, redis)
    assert verdict.ok
    assert verdict.changes_again == count


def test_a_segment_change_that_is_not_what_it_was_under_its_id_is_found(world):
    logs, redis = world
    first = logs.segment_changes[0]
    again = first._replace(value=first.value + b" ", offset=len(logs.segment_changes))
    logs.segment_changes.append(again)
    assert verdict_on(logs, redis).faults == {"broken_chains": 1}


def test_a_lost_notice_that_a_customer_is_gone_is_found(changed):
    logs, redis, expected = deepcopy(changed)
    gone = next(
        n for n, record in enumerate(logs.segment_changes)
        if json.loads(record.value)["type"] == "clv.customer-removed"
        and json.loads(record.value)["subject"] in expected.erased
    )  # fmt: skip
    del logs.segment_changes[gone]
    assert verdict_on(logs, redis, expected).broken_chains > 0


@pytest.mark.parametrize("place", ["changelog", "updates", "redis"])
def test_a_trace_of_an_erased_customer_is_found(world, place: str):
    logs, redis = world
    erased = "run1-999999"
    expected = replace(EXPECTED, erased={erased})
    assert verdict_on(logs, redis, expected).ok
    if place == "redis":
        redis.raw.append(b"clv:identity:" + erased.encode())
    else:
        log = getattr(logs, place)
        log.append(log[-1]._replace(key=erased.encode(), offset=len(log)))
    assert verdict_on(logs, redis, expected).traces == 1


def test_sums_of_a_plain_worker_are_judged_by_orders_and_gross():
    made = workload(plain=True, events=200, customers=10)
    expected = reckon(made.events, TERMS, NOW, "run1")
    sums = {c: {"orders": d.orders, "gross": float(d.gross)} for c, d in expected.customers.items()}

    def verdict():
        changelog = [
            Logged(0, n, c.encode(), json.dumps(s).encode())
            for n, (c, s) in enumerate(sums.items())
        ]
        updates = [r._replace(value=b'{"data": {"totals": ' + r.value + b"}}") for r in changelog]
        hashes = {r.key.decode(): {"update": r.value} for r in updates}
        return judge_plain(expected, changelog, updates, RedisState(hashes=hashes))

    assert verdict().ok, str(verdict())
    busy = max(sums, key=lambda c: sums[c]["orders"])
    sums[busy]["orders"] -= 1
    assert verdict().faults == {"lost": 1}
    sums[busy]["orders"] += 3
    assert verdict().faults == {"doubled": 2}
