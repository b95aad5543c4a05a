"""A digest says whether two services came to the same, and leaves no trace of how."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest

from models.aggregate.record import decode_record, encode_record
from models.contracts.clock import Tick
from streams.datasets import DATASETS
from streams.outcome.outcome import Outcome
from streams.recording import Recording
from streams.replay import memory
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings

from .support import PARAMETERS, some_events, write_events


class Kept:
    """What came out, in its order."""

    def __init__(self):
        self.calls = []

    def take(self, role, key, value, headers):
        name = {"changelog": "state", "updates": "update", "segment_changes": "change"}.get(role)
        self.calls.append(("letter", b"", headers) if name is None else (name, key, value))


EVENTS_SEED = 4
TICK = Tick(as_of=DATASETS["cdnow"].as_of, parameters=PARAMETERS.version)


async def replayed(path: Path, sink) -> None:
    async with in_memory(Settings(), FromFile(Recording(path)), sink) as replay:
        await replay.run()


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    path = tmp_path_factory.mktemp("digest") / "a.clvrec"
    write_events(path, some_events(EVENTS_SEED), TICK, PARAMETERS)
    kept = Kept()
    asyncio.run(replayed(path, kept))
    assert {name for name, *_ in kept.calls} == {"state", "update", "change"}
    return kept.calls


def result_of(calls):
    outcome = Outcome()
    for name, *given in calls:
        getattr(outcome, name)(*(given[1:] if name == "letter" else given))
    return outcome.result()


def test_the_order_of_customers_among_each_other_does_not_matter(calls):
    dice = random.Random(1)
    by_key: dict[bytes, list] = {}
    for call in calls:
        by_key.setdefault(call[1], []).append(call)
    queues = list(by_key.values())
    mixed = []
    while queues:
        queue = dice.choice(queues)
        mixed.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    assert mixed != calls
    assert result_of(mixed).digests == result_of(calls).digests


def test_what_is_told_again_counts_once(calls):
    changes = [call for call in calls if call[0] == "change"]
    again = result_of([*calls, *changes[-50:], *[c for c in calls if c[0] == "update"][-1:]])
    assert again.digests == result_of(calls).digests
    assert again.repeats == 50
    assert not again.disagreements


def test_the_order_of_a_customers_changes_matters(calls):
    results = result_of(calls)
    places = [n for n, call in enumerate(calls) if call[0] == "change"]
    first = places[0]
    second = next(n for n in places[1:] if calls[n][1] == calls[first][1])
    swapped = list(calls)
    swapped[first], swapped[second] = swapped[second], swapped[first]
    other = result_of(swapped)
    assert other.digests["changes"] != results.digests["changes"]
    assert other.digests["values"] == results.digests["values"]
    assert other.digest != results.digest


def test_a_change_that_is_missing_is_seen(calls):
    last = max(n for n, call in enumerate(calls) if call[0] == "change")
    other = result_of([*calls[:last], *calls[last + 1 :]])
    assert other.digests["changes"] != result_of(calls).digests["changes"]


def changed_record(calls, **change):
    place = max(n for n, call in enumerate(calls) if call[0] == "state" and call[1][:1] != b"\0")
    name, key, data = calls[place]
    record = decode_record(data)
    for field, value in change.items():
        setattr(record, field, value)
    return [*calls[:place], (name, key, encode_record(record)), *calls[place + 1 :]]


@pytest.mark.parametrize(
    "change", [{"version": 99}, {"as_of": 5}, {"segments": {"tier": "gold"}}, {"clv": 1.0}]
)
def test_each_field_of_a_stored_customer_matters(calls, change):
    other = result_of(changed_record(calls, **change))
    assert other.digests["customers"] != result_of(calls).digests["customers"]
    assert other.digests["changes"] == result_of(calls).digests["changes"]


def test_offsets_and_what_is_still_to_be_told_do_not_matter(calls):
    other = result_of(changed_record(calls, applied={"elsewhere/7": 12}, outbox=()))
    assert other.digests == result_of(calls).digests


def test_the_last_digit_of_a_published_value_matters(calls):
    place = max(n for n, call in enumerate(calls) if call[0] == "update")
    name, key, document = calls[place]
    update = json.loads(document)
    update["data"]["expected"]["purchases"] *= 1 + 2**-52
    other = result_of(
        [*calls[:place], (name, key, json.dumps(update).encode()), *calls[place + 1 :]]
    )
    assert other.digests["values"] != result_of(calls).digests["values"]


def test_a_value_that_is_not_the_stored_one_is_named(calls):
    other = result_of(changed_record(calls, clv=1.0))
    (problem,) = other.disagreements
    assert "is valued at 1.0" in problem


def test_the_same_change_told_in_two_ways_is_named(calls):
    name, key, document = next(call for call in calls if call[0] == "change")
    told = json.loads(document)
    told["data"]["clv_after"] = -1.0
    other = result_of([*calls, (name, key, json.dumps(told).encode())])
    assert other.disagreements == (f"{told['id']} was told twice, and not the same",)


@pytest.mark.parametrize(("partitions", "at_once"), [(1, 5_000), (3, 700), (5, 99)])
async def test_partitions_and_batches_leave_no_trace(
    calls, tmp_path, monkeypatch, partitions, at_once
):
    path = tmp_path / "a.clvrec"
    write_events(path, some_events(EVENTS_SEED), TICK, PARAMETERS, partitions)
    monkeypatch.setattr(memory, "_AT_ONCE", at_once)
    outcome = Outcome(detailed=False)
    await replayed(path, outcome)
    assert outcome.result() == result_of(calls)
