"""Records come in one order, however they were read, and go into partitions by one rule."""

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.kafka.partitions import home_partition
from streams.recording import Recorded
from streams.recording.format import Place
from streams.recording.live import merged
from streams.replay.barriers import between_barriers
from streams.replay.placing import Pace, Placing

from .support import ROLES, topics

STAMPS = st.lists(st.integers(0, 50), max_size=8)
PARTITIONS = st.dictionaries(st.tuples(st.integers(0, 2), st.integers(0, 2)), STAMPS, max_size=6)


class Lists:
    """Partitions in memory."""

    def __init__(self, records):
        self._left = {place: iter(each) for place, each in records.items()}

    async def next(self, place):
        return next(self._left[place], None)


def records_of(stamps):
    return {
        Place(*place): [Recorded(*place, n, at, None, None) for n, at in enumerate(each)]
        for place, each in stamps.items()
    }


@given(PARTITIONS, st.randoms())
@settings(deadline=None)
async def test_the_order_is_that_of_time_and_place_and_keeps_partitions(stamps, dice):
    records = records_of(stamps)
    places = list(records)
    dice.shuffle(places)
    found = [record async for record in merged(Lists(records).next, places)]
    again = [record async for record in merged(Lists(records).next, sorted(places))]
    assert found == again
    by_place = defaultdict(list)
    for record in found:
        by_place[record.topic, record.partition].append(record)
    assert by_place == {place: each for place, each in records.items() if each}
    if all(each == sorted(each) for each in stamps.values()):
        assert found == sorted(found, key=lambda r: (r.timestamp, r.topic, r.partition, r.offset))


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(ROLES),
        st.sampled_from([None, b"a", b"b", b"c"]),
        st.sampled_from([b"1", b"2"]),
    ),
    max_size=40,
)


def role_of(record):
    return ROLES[record.topic]


@given(EVENTS)
def test_barriers_keep_each_customer_in_order_and_on_one_topic(events):
    records = [
        Recorded(ROLES.index(role), 0, n, n, key, value)
        for n, (role, key, value) in enumerate(events)
    ]
    found = between_barriers(records, role_of)
    assert sorted(r.offset for group in found for r in group) == list(range(len(records)))
    assert all(found)
    for group in found:
        by_key = defaultdict(set)
        for record in group:
            if record.key is not None:
                by_key[record.key].add(record.topic)
        assert all(len(each) == 1 for each in by_key.values())
    for key in (b"a", b"b", b"c"):
        order = [r.offset for group in found for r in group if r.key == key]
        assert order == sorted(order)


@given(EVENTS)
def test_ticks_parameters_merges_and_erasures_wait_for_what_came_before_and_others_for_them(events):
    records = [
        Recorded(ROLES.index(role), 0, n, n, key, value)
        for n, (role, key, value) in enumerate(events)
    ]
    group_of = {
        r.offset: n for n, group in enumerate(between_barriers(records, role_of)) for r in group
    }
    for record in records:
        role = ROLES[record.topic]
        if role not in ("clock", "models", "identities"):
            continue
        for other in records:
            if other.offset < record.offset:
                same_tick = role == "clock" == ROLES[other.topic] and other.value == record.value
                assert group_of[other.offset] < group_of[record.offset] or (
                    same_tick and group_of[other.offset] == group_of[record.offset]
                )


@given(st.binary(min_size=1), st.integers(1, 9), st.integers(1, 9))
def test_keys_go_home_where_partitions_differ_and_stay_where_they_do_not(key, before, after):
    source = topics(before)
    counts = {role: 1 if role == "models" else after for role in ROLES}
    placing = Placing(source, counts, pseudonyms=False)
    record = Recorded(1, before - 1, 0, 0, key, None)
    (found,) = placing.of(record)
    assert found == (before - 1 if before == after else home_partition(key, after))
    hidden = Placing(source, counts, pseudonyms=True)
    assert hidden.of(record) == (home_partition(key, after),)


def test_a_tick_reaches_every_partition_once():
    source = topics(3)
    clock = ROLES.index("clock")
    ticks = [Recorded(clock, partition, 0, 0, None, b"{}") for partition in range(3)]
    for count in (1, 2, 3, 5):
        counts = {role: 1 if role == "models" else count for role in ROLES}
        placing = Placing(source, counts, pseudonyms=False)
        reached = [partition for tick in ticks for partition in placing.of(tick)]
        assert sorted(reached) == list(range(count))


def test_the_pace_follows_the_timestamps():
    fast, slow = Pace(1_000.0), Pace(2.0)
    assert Pace(None).wait_for(10**12) == 0.0
    for pace, expected in ((fast, 10.0), (slow, 5_000.0)):
        assert pace.wait_for(0) == 0.0
        assert expected - 1 < pace.wait_for(10_000_000) <= expected
        assert pace.wait_for(-5_000) == 0.0
