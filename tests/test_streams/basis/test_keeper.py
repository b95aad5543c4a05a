"""A worker and what its state was built on, in memory: what it writes, compares and refuses."""

from typing import Any

import pytest
from faust.types import TP

from models.aggregate.record import BASIS_KEY, decode_record
from models.economics import Economics
from streams.basis.findings import BasisLost, Kind
from streams.basis.logs import mark_of
from streams.basis.record import Basis, decode_basis, encode_basis, sealed
from streams.kafka.partitions import home_partition
from streams.testing import running_topology
from streams.testing.settings import shop_settings
from streams.testing.topology import Topology
from streams.topics import changelog_topic

CUSTOMER = "c1"


def home(topology: Topology) -> int:
    return home_partition(CUSTOMER.encode(), topology.partitions)


def orders_log(topology: Topology) -> TP:
    return TP(topology.settings.topics.orders, home(topology))


def changelog(topology: Topology, partition: int) -> TP:
    return TP(changelog_topic(topology.settings), partition)


def stored(topology: Topology, partition: int | None = None) -> list[Basis]:
    """The bases that were written to a partition, oldest first."""
    tp = changelog(topology, home(topology) if partition is None else partition)
    return [
        decode_basis(record.value, tp.partition)
        for record in topology.broker.logs[tp]
        if record.key == BASIS_KEY and record.value is not None
    ]


def store(topology: Topology, **changes: Any) -> None:
    """Change what is stored of the home partition."""
    basis = stored(topology)[-1]
    for name, value in changes.items():
        setattr(basis, name, value)
    topology.broker.append(changelog(topology, home(topology)), encode_basis(basis), key=BASIS_KEY)


async def ordered(topology: Topology, *names: str) -> None:
    for name in names:
        await topology.orders.placed(CUSTOMER, order_id=name, total="40.00 EUR")
    await topology.settled()


async def refusal(topology: Topology) -> list[Kind]:
    """Start a worker, which must refuse; returns what it found."""
    committed = dict(topology.broker.committed)
    with pytest.raises(Exception, match="BasisLost"):
        await topology.start_worker()
    error = await topology.crash()
    assert isinstance(error, BasisLost)
    assert topology.broker.committed == committed
    return [finding.kind for finding in error.findings]


async def test_every_partition_has_its_basis_before_anything_is_committed():
    async with running_topology() as topology:
        economics = topology.settings.economics
        for partition in range(topology.partitions):
            [basis] = stored(topology, partition)
            assert (basis.partitions, basis.currency, basis.timezone) == (
                topology.partitions, economics.currency, economics.timezone,
            )  # fmt: skip
            assert not basis.marks
        assert not topology.broker.committed


async def test_the_last_record_that_was_processed_is_remembered_at_a_stop():
    async with running_topology() as topology:
        await ordered(topology, *"abcde")
        # Not with every batch.
        assert len(stored(topology)) == 2
        await topology.stop_worker()
        tp = orders_log(topology)
        secret = topology.settings.erasure_secret
        last = sealed(mark_of(topology.broker.logs[tp][-1]), secret)
        assert stored(topology)[-1].marks == {f"{tp.topic}/{tp.partition}": last}
        await topology.start_worker()
        await ordered(topology, "f")
        assert (await topology.updates.last(CUSTOMER)).totals.orders == 6


async def test_a_state_of_a_version_without_a_basis_is_adopted():
    async with running_topology() as topology:
        await ordered(topology, "a")
        await topology.stop_worker()
        for partition in range(topology.partitions):
            tp = changelog(topology, partition)
            # Partitions without a customer are empty then, and ticks are committed in them.
            log = topology.broker.logs[tp]
            topology.broker.logs[tp] = [r for r in log if r.key != BASIS_KEY]
            clock = TP(topology.settings.topics.clock, partition)
            topology.broker.append(clock, b"{}")
            topology.broker.commit({clock: 1})
        await topology.start_worker()
        await ordered(topology, "b")
        assert (await topology.updates.last(CUSTOMER)).totals.orders == 2
        assert stored(topology)[-1].marks


async def test_a_partition_whose_state_is_gone_is_told_from_one_without_customers():
    async with running_topology() as topology:
        await ordered(topology, "a")
        await topology.stop_worker()
        topology.broker.logs[changelog(topology, home(topology))] = []
        assert await refusal(topology) == [Kind.STATE]


@pytest.mark.parametrize("left", [0, 2])
async def test_a_log_that_lost_its_end_is_refused(left):
    async with running_topology() as topology:
        await ordered(topology, *"abcd")
        await topology.stop_worker()
        tp = orders_log(topology)
        del topology.broker.logs[tp][left:]
        topology.broker.ends[tp] = left
        assert await refusal(topology) == [Kind.CUT]


async def test_a_log_that_lost_its_end_and_was_written_to_again_is_refused():
    async with running_topology() as topology:
        await ordered(topology, *"abcd")
        await topology.stop_worker()
        tp = orders_log(topology)
        del topology.broker.logs[tp][2:]
        topology.broker.ends[tp] = 2
        for name in "efghi":
            await topology.orders.placed(CUSTOMER, order_id=name, total="40.00 EUR")
        assert await refusal(topology) == [Kind.REPLACED]


async def test_records_that_were_deleted_unread_are_refused_and_those_that_were_read_are_not():
    async with running_topology() as topology:
        await ordered(topology, *"abcd")
        await topology.stop_worker()
        tp = orders_log(topology)
        del topology.broker.logs[tp][:4]
        await topology.orders.placed(CUSTOMER, order_id="e", total="40.00 EUR")
        await topology.start_worker()
        await topology.settled()
        assert (await topology.updates.last(CUSTOMER)).totals.orders == 5
        await topology.stop_worker()
        for name in "fgh":
            await topology.orders.placed(CUSTOMER, order_id=name, total="40.00 EUR")
        del topology.broker.logs[tp][:2]
        assert await refusal(topology) == [Kind.DELETED]


async def test_ticks_that_were_deleted_unread_are_made_up_for_by_the_next():
    async with running_topology() as topology:
        await ordered(topology, "a")
        await topology.advance(days=1)
        await topology.stop_worker()
        for partition in range(topology.partitions):
            clock = TP(topology.settings.topics.clock, partition)
            topology.broker.append(clock, b"never read")
            topology.broker.append(clock, b"read, and refused")
            del topology.broker.logs[clock][:2]
        await topology.start_worker()
        await topology.advance(days=1)
        assert (await topology.updates.last(CUSTOMER)).version == 3
        assert len(await topology.dead_letters.all()) == topology.partitions


async def test_another_number_of_partitions_is_refused():
    async with running_topology() as topology:
        await ordered(topology, "a")
        await topology.stop_worker()
        store(topology, partitions=2)
        assert await refusal(topology) == [Kind.PARTITIONS]


async def test_facts_are_valued_under_another_currency_and_time_zone():
    async with running_topology() as topology:
        await ordered(topology, "a")
        await topology.stop_worker()
        store(topology, currency="JPY", timezone="Asia/Tokyo")
        await topology.start_worker()
        await ordered(topology, "b")
        assert (await topology.updates.last(CUSTOMER)).totals.orders == 2
        economics = topology.settings.economics
        held = stored(topology)[-1]
        assert (held.currency, held.timezone) == (economics.currency, economics.timezone)


async def test_what_was_summed_up_by_days_of_another_time_zone_is_refused():
    few = shop_settings().model_copy(update={"economics": Economics(currency="EUR", remembered=1)})
    async with running_topology(few) as topology:
        await ordered(topology, "a", "b")
        await topology.stop_worker()
        store(topology, timezone="Asia/Tokyo")
        assert await refusal(topology) == [Kind.TIMEZONE]


async def test_tickets_that_were_summed_up_by_other_complaint_topics_are_refused():
    few = shop_settings().model_copy(update={"economics": Economics(currency="EUR", remembered=1)})
    async with running_topology(few) as topology:
        await topology.support.opened(CUSTOMER, ticket="t1", at="2026-01-03", topic="damaged")
        await topology.settled()
        await topology.stop_worker()
        assert stored(topology)[-1].complaint_topics == ["complaint"]
        # Nothing is summed up yet, so that another setting applies to everything.
        store(topology, complaint_topics=["damaged"])
        await topology.start_worker()
        await topology.support.opened(CUSTOMER, ticket="t2", at="2026-01-04")
        await topology.settled()
        await topology.stop_worker()
        assert stored(topology)[-1].complaint_topics == ["complaint"]
        store(topology, complaint_topics=["damaged"])
        assert await refusal(topology) == [Kind.COMPLAINT_TOPICS]


async def test_records_of_a_log_of_another_generation_are_no_replays():
    async with running_topology() as topology:
        await ordered(topology, *"abc")
        await topology.stop_worker()
        tp = orders_log(topology)
        # As when the topic was made anew, and that was accepted.
        topology.broker.logs[tp], topology.broker.ends[tp] = [], 0
        topology.broker.committed[tp] = 0
        key = f"{tp.topic}/{tp.partition}"
        store(topology, generations={key: 1}, marks={}, committed={key: 3})
        await topology.start_worker()
        before = len(await topology.segment_changes.all())
        await ordered(topology, *"bcde")
        assert (await topology.updates.last(CUSTOMER)).totals.orders == 5
        # What was told under the former log's offsets is not told again.
        told = await topology.segment_changes.all()
        ids = [(change.version, change.dimension) for change in told]
        assert len(ids) == len(set(ids)) >= before
        states = topology.broker.logs[changelog(topology, home(topology))]
        last = [r.value for r in states if r.key == CUSTOMER.encode()][-1]
        assert decode_record(last).applied == {key: 2, f"{key}#1": 3}


async def test_new_customers_begin_above_the_first_version():
    async with running_topology() as topology:
        await topology.stop_worker()
        store(topology, first_version=41)
        await topology.start_worker()
        await ordered(topology, "a")
        assert (await topology.updates.last(CUSTOMER)).version == 42


async def test_settings_of_the_shop_are_those_of_the_topology():
    settings = shop_settings()
    async with running_topology(settings) as topology:
        assert stored(topology, 0)[0].currency == settings.economics.currency
