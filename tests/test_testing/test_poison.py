"""A record that makes the engine raise stops two workers, and is then a dead letter."""

from contextlib import suppress

import pytest
from structlog.testing import capture_logs

import models.engine
import models.publishing
from models.aggregate.record import strikes_key
from models.customers import Customer
from streams.poison import MOST_STRIKES, PoisonRecord, first_bad, is_nobodys
from streams.testing import WorkerCrashed
from streams.testing.topology import Topology

CHANGELOG = "clv-customers-changelog"


class Defect(Exception):
    """What the engine raises in these tests."""


async def started_again(topology: Topology) -> None:
    """Start a worker, which may crash at once."""
    with suppress(WorkerCrashed):
        await topology.start_worker()


async def crash_of(topology: Topology) -> BaseException:
    error = await topology.crash()
    while error.__cause__ is not None and not isinstance(error, PoisonRecord | Defect):
        error = error.__cause__
    return error


async def struck_out(topology: Topology) -> list[BaseException]:
    """Have workers crash as often as a record may make them, and start the next one."""
    errors = []
    for _ in range(MOST_STRIKES):
        errors.append(await crash_of(topology))
        await started_again(topology)
    return errors


def strikes(topology: Topology, topic: str) -> list[bytes | None]:
    """What the changelog says of the strikes of a topic, in order."""
    keys = {strikes_key(f"{topic}/{n}") for n in range(topology.partitions)}
    return [record.value for record in topology._records_now(CHANGELOG) if record.key in keys]


def break_fold(monkeypatch: pytest.MonkeyPatch, *orders: str) -> None:
    apply = Customer.apply

    def broken(self, event, occurred, config):
        if getattr(event.data, "order_id", "") in orders:
            raise Defect(f"order {event.data.order_id} cannot be folded")
        return apply(self, event, occurred, config)

    monkeypatch.setattr(Customer, "apply", broken)


def break_scoring(monkeypatch: pytest.MonkeyPatch, *customers: str) -> None:
    update = models.publishing.value_update

    def broken(customer_id, *rest):
        if customer_id in customers:
            raise Defect(f"{customer_id} cannot be scored")
        return update(customer_id, *rest)

    monkeypatch.setattr(models.publishing, "value_update", broken)


async def orders(topology: Topology, *customers: str) -> None:
    for customer in customers:
        await topology.orders.placed(customer, 40, order_id=f"of {customer}")


async def counted(topology: Topology) -> dict[str, int]:
    current = await topology.updates.current()
    return {customer: update.totals.orders for customer, update in current.items()}


@pytest.mark.parametrize("where", ["fold", "scoring"])
async def test_after_two_crashes_the_record_is_a_letter_and_the_others_count(
    topology: Topology, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "fold":
        break_fold(monkeypatch, "of bad")
    else:
        break_scoring(monkeypatch, "bad")
    names = [f"c{n}" for n in range(20)]
    await orders(topology, *names[:10], "bad", *names[10:])
    with capture_logs() as logs:
        errors = await struck_out(topology)
        await topology.settled()
    for number, error in enumerate(errors):
        assert isinstance(error, PoisonRecord)
        assert "shop.orders[" in str(error)
        assert "of customer 'bad'" in str(error)
        assert f"strike {number + 1} of 2" in str(error)
        assert "Defect" in str(error)
    [letter] = await topology.dead_letters.all()
    assert (letter.reason, letter.key, letter.topic) == ("poison", b"bad", "shop.orders")
    for words in ("Defect: ", "'bad'", "Publisher: ", "Operator: "):
        assert words in letter.message
    assert await counted(topology) == dict.fromkeys(names, 1)
    [said] = [line for line in logs if line["log_level"] == "critical"]
    assert said["where"] == f"shop.orders[{letter.partition}]@{letter.offset}"
    assert topology.workers[-1].pipeline.counts.dead_letters == {"poison": 1}
    # Once it is committed, its strikes are of no use.
    await topology.orders.placed("bad", 1, order_id="another")
    if where == "fold":
        assert (await topology.updates.last("bad")).totals.orders == 1
        assert (strikes(topology, "shop.orders"))[-1] is None


async def test_two_such_records_in_a_partition_are_set_aside_one_after_the_other(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_fold(monkeypatch, "bad-1", "bad-2")
    for order in ("good-1", "bad-1", "good-2", "bad-2", "good-3"):
        await topology.orders.placed("c1", 10, order_id=order)
    await struck_out(topology)
    await struck_out(topology)
    letters = await topology.dead_letters.all()
    assert {(letter.reason, letter.offset) for letter in letters} == {("poison", 1), ("poison", 3)}
    assert (await topology.updates.last("c1")).totals.orders == 3


async def test_a_defect_that_is_repaired_in_time_loses_nothing(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        break_fold(broken, "of bad")
        await orders(topology, "good", "bad")
        await crash_of(topology)
    await topology.start_worker()
    assert await counted(topology) == {"good": 1, "bad": 1}
    assert await topology.dead_letters.all() == []


async def test_what_fails_for_everybody_is_no_records_fault(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{n}" for n in range(60)]
    with monkeypatch.context() as broken:
        break_fold(broken, *(f"of {name}" for name in names))
        await topology.kill_worker()
        for name in names:
            await topology.orders.placed(name, 40, order_id=f"of {name}")
        for _ in range(MOST_STRIKES + 2):
            await started_again(topology)
            assert isinstance(await crash_of(topology), Defect)
    await topology.start_worker()
    assert await counted(topology) == dict.fromkeys(names, 1)
    assert await topology.dead_letters.all() == []
    assert strikes(topology, "shop.orders") == []


async def test_a_customer_whose_stored_record_is_damaged_is_never_overwritten(
    topology: Topology,
) -> None:
    await orders(topology, "good", "bad")
    await topology.settled()
    await topology.kill_worker()
    damaged = b"\x02 no record"
    await topology.publish(CHANGELOG, "bad", damaged)
    await topology.start_worker()
    await topology.orders.placed("bad", 7, order_id="later")
    await topology.orders.placed("good", 7, order_id="later")
    await struck_out(topology)
    await topology.settled()
    [letter] = await topology.dead_letters.all()
    assert (letter.reason, letter.key) == ("poison", b"bad")
    assert "damaged" in letter.message
    stored = [record for record in await topology.topic(CHANGELOG) if record.key == b"bad"]
    assert stored[-1].value == damaged
    assert (await topology.updates.last("good")).totals.orders == 2


async def test_a_record_of_a_newer_version_stops_every_worker(topology: Topology) -> None:
    await orders(topology, "c1")
    await topology.settled()
    await topology.kill_worker()
    await topology.publish(CHANGELOG, "c1", b"\xff newer")
    await topology.start_worker()
    await topology.orders.placed("c1", 7, order_id="later")
    for _ in range(MOST_STRIKES + 2):
        error = await topology.crash()
        assert "newer version" in repr(error)
        await started_again(topology)
    await topology.crash()
    assert strikes(topology, "shop.orders") == []
    assert topology._records_now("clv.dead-letters") == []


async def test_a_tick_leaves_out_the_customer_who_makes_it_fail(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"c{n}" for n in range(12)]
    await orders(topology, *names, "bad")
    await topology.settled()
    before = {name: (await topology.updates.last(name)).as_of for name in [*names, "bad"]}
    break_scoring(monkeypatch, "bad")
    with suppress(WorkerCrashed):
        await topology.advance(days=30)
    errors = await struck_out(topology)
    assert all("clv.clock[" in str(error) and "'bad'" in str(error) for error in errors)
    await topology.settled()
    [letter] = await topology.dead_letters.all()
    assert (letter.reason, letter.topic) == ("poison", "clv.clock")
    assert "the others were" in letter.message
    after = {name: update.as_of for name, update in (await topology.updates.current()).items()}
    assert all(after[name] > before[name] for name in names)
    assert after["bad"] == before["bad"]


async def test_a_message_between_customers_is_never_set_aside(
    topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    await orders(topology, "c1", "c2")
    await topology.settled()
    with monkeypatch.context() as broken, capture_logs() as logs:

        def defect(*_: object) -> None:
            raise Defect("states cannot be joined")

        broken.setattr(models.engine, "take_over", defect)
        await topology.customers.merged("c1", "c2")
        for _ in range(MOST_STRIKES + 3):
            error = await crash_of(topology)
            assert isinstance(error, PoisonRecord)
            assert "clv.identity[" in str(error)
            await started_again(topology)
        await crash_of(topology)
        loud = [line for line in logs if line["log_level"] == "critical"]
        assert len(loud) >= MOST_STRIKES + 3
        assert all("never set aside" in line["event"] for line in loud)
    assert strikes(topology, "clv.identity") == []
    await topology.start_worker()
    await topology.settled()
    assert await topology.dead_letters.all() == []
    totals = (await topology.updates.current())["c1"].totals
    assert totals.orders == 2


def test_the_first_bad_item_is_found():
    for length in range(1, 40):
        for bad in range(length):
            asked = []

            def fails(count: int, bad: int = bad, asked: list[int] = asked) -> bool:
                asked.append(count)
                return count > bad

            assert first_bad(length, fails) == bad
            assert len(asked) <= 2 + length.bit_length()
    assert first_bad(5, lambda _count: True) is None
    assert first_bad(5, lambda _count: False) is None


def test_nobody_is_to_blame_for_what_fails_for_all_others():
    assert is_nobodys(range(5), lambda _other: True)
    assert not is_nobodys(range(4), lambda _other: True)
    assert not is_nobodys(range(50), lambda other: other != 19)
