"""Without the group's word nothing is written; what comes too late never is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import aiokafka.client
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    IllegalGenerationError,
    NodeNotReadyError,
    NoError,
    RebalanceInProgressError,
)
from aiokafka.protocol.group import SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from streams.embedded import EmbeddedBroker
from streams.transport import batch_app
from streams.transport.lease import Lease, LeaseLost, now, renew_by_answers, send_under

SESSION = 0.5
SYNC = SyncGroupRequest("g", 1, "m", None, [])
PRODUCE = ProduceRequest(None, -1, 1000, [])


def test_a_lease_lasts_a_session_from_the_asking_and_not_from_the_answer():
    lease = Lease(SESSION)
    assert lease.held
    lease.renew(now() - SESSION)
    assert not lease.held
    lease.renew(now())
    assert lease.held
    lease.renew(now() - 10 * SESSION)
    assert lease.held


def test_while_the_group_rebalances_it_ends_before_the_rebalance_timeout():
    began = now()
    for since, held in ((80.0, True), (99.0, False)):
        lease = Lease(10.0, rebalance_seconds=100.0)
        lease.take(began - since)
        for asked_at in range(int(since)):
            lease.renew(began - since + asked_at, rebalancing=True)
        lease.renew(began, rebalancing=True)
        assert lease.held is held
        lease.renew(began)
        assert lease.held


def test_the_app_tells_the_group_and_the_lease_the_same_rebalance_timeout():
    app = batch_app("app", broker="kafka://nowhere", broker_rebalance_timeout=20.0)
    app.lease.take(now() - 19.0)
    app.lease.renew(now(), rebalancing=True)
    assert not app.lease.held
    assert app.conf.broker_rebalance_timeout == 20.0
    # A recovery that takes hours asks for no records, and must not leave the group for it.
    assert app.conf.broker_max_poll_interval >= 12 * 3600


def test_a_suspended_system_does_not_stop_the_clock(monkeypatch: pytest.MonkeyPatch):
    lease = Lease(SESSION)
    lease.renew(now())
    clock = time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda i: clock(i) + (60.0 if i == time.CLOCK_BOOTTIME else 0.0)
    )
    assert not lease.held


def test_whoever_never_joined_has_nothing_to_lose():
    lease = Lease(SESSION)
    lease.lose()
    assert lease.held
    lease.renew(now())
    lease.lose()
    assert not lease.held


def test_what_was_lost_comes_back_by_joining_and_by_nothing_else():
    lease = Lease(SESSION)
    lease.take(now())
    before = lease.term
    lease.lose()
    lease.renew(now())
    assert not lease.held
    lease.take(now())
    assert lease.held
    assert lease.term is not before


def coordinator(answer: Callable[[Any], Awaitable[int]]) -> Any:
    """aiokafka's own, which gets these error codes for answers."""
    coordinator: Any = GroupCoordinator.__new__(GroupCoordinator)
    coordinator.group_id, coordinator.generation, coordinator.member_id = "g", 1, "m"
    coordinator._rejoin_needed_fut = asyncio.get_running_loop().create_future()

    async def ask(request: Any) -> Any:
        return SimpleNamespace(error_code=await answer(request))

    coordinator._send_req = ask
    return coordinator


async def test_answers_renew_and_a_forgotten_member_has_lost():
    errors = [NoError, RebalanceInProgressError, IllegalGenerationError]

    async def answer(_: Any) -> int:
        return errors.pop(0).errno

    group = coordinator(answer)
    lease = Lease(SESSION)
    renew_by_answers(lease, SimpleNamespace(_coordinator=group))
    asked = now()
    assert await group._do_heartbeat()
    steady = lease.term.sure
    assert asked <= steady <= now()
    await asyncio.sleep(0.8 * SESSION)
    assert await group._do_heartbeat()
    assert lease.term.sure == steady
    await asyncio.sleep(0.8 * SESSION)
    assert lease.held
    assert not await group._do_heartbeat()
    assert group.generation == -1
    with pytest.raises(LeaseLost, match="gave this worker up"):
        await lease.wait()


async def test_heartbeats_during_a_rebalance_do_not_hold_it_for_ever():
    async def answer(_: Any) -> int:
        return RebalanceInProgressError.errno

    group = coordinator(answer)
    lease = Lease(SESSION, rebalance_seconds=2 * SESSION)
    renew_by_answers(lease, SimpleNamespace(_coordinator=group))
    lease.take(now())
    for _ in range(10):
        await asyncio.sleep(0.2 * SESSION)
        assert await group._do_heartbeat()
    assert not lease.held


async def test_an_answer_under_way_when_it_was_lost_does_not_give_it_back():
    may_answer = asyncio.Event()

    async def answer(_: Any) -> int:
        await may_answer.wait()
        return NoError.errno

    group = coordinator(answer)
    lease = Lease(SESSION)
    renew_by_answers(lease, SimpleNamespace(_coordinator=group))
    lease.take(now())
    beat = asyncio.create_task(group._do_heartbeat())
    await asyncio.sleep(0)
    group.reset_generation()
    may_answer.set()
    assert await beat
    with pytest.raises(LeaseLost):
        await lease.wait()
    await group._send_req(SYNC)
    assert lease.held


class Connection:
    """What aiokafka's client writes to."""

    def __init__(self, written: list[bool], lease: Lease) -> None:
        self.written, self.lease, self.open = written, lease, True

    def connected(self) -> bool:
        return self.open

    def send(self, _: Any, *, expect_response: bool) -> asyncio.Future[bool]:
        self.written.append(self.lease.held)
        answer = asyncio.get_running_loop().create_future()
        answer.set_result(True)
        return answer


@pytest.fixture
def connecting(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """aiokafka's client that takes a while to connect, under a lease."""
    lease, written, made = Lease(SESSION), [], []
    seconds = {"connect": 0.0}

    async def connect(*_: Any, **__: Any) -> Connection:
        await asyncio.sleep(seconds["connect"])
        if seconds["connect"] < 0:
            raise OSError("refused")
        made.append(Connection(written, lease))
        return made[-1]

    monkeypatch.setattr(aiokafka.client, "create_conn", connect)
    return {"lease": lease, "written": written, "made": made, "seconds": seconds}


async def guarded(lease: Lease) -> AIOKafkaClient:
    client = AIOKafkaClient(bootstrap_servers="nowhere:1")
    client.cluster.broker_metadata = lambda _: SimpleNamespace(host="nowhere", port=1)
    send_under(lease, SimpleNamespace(_sender=SimpleNamespace(client=client, _send_produce_req=0)))
    return client


async def renewed_until(waiting: asyncio.Future[Any], lease: Lease) -> Any:
    """Keep a lease until what waits for it has happened: a busy machine may take longer than it."""
    async with asyncio.timeout(60):
        while not waiting.done():
            lease.renew(now())
            await asyncio.sleep(SESSION / 10)
    return await waiting


async def test_the_lease_is_looked_at_when_there_is_a_connection(connecting: dict[str, Any]):
    lease, written = connecting["lease"], connecting["written"]
    connecting["seconds"]["connect"] = 1.5 * SESSION
    client = await guarded(lease)
    lease.take(now())
    sending = asyncio.create_task(client.send(0, PRODUCE))
    await asyncio.sleep(2 * SESSION)
    assert written == []
    assert await renewed_until(sending, lease)
    assert written == [True]


async def test_a_connection_that_breaks_while_it_waits_is_made_before_the_lease_is_looked_at(
    connecting: dict[str, Any],
):
    lease, written, made = connecting["lease"], connecting["written"], connecting["made"]
    client = await guarded(lease)
    lease.take(now() - SESSION)
    sending = asyncio.create_task(client.send(0, PRODUCE))
    await asyncio.sleep(0.1)
    [first] = made
    first.open = False
    connecting["seconds"]["connect"] = 1.5 * SESSION
    lease.renew(now())
    await asyncio.sleep(2 * SESSION)
    assert len(made) == 2
    assert written == []
    lease.lose()
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(sending, 60)
    assert written == []


async def test_without_a_connection_it_fails_as_ever_and_other_requests_need_no_lease(
    connecting: dict[str, Any],
):
    lease, written = connecting["lease"], connecting["written"]
    client = await guarded(lease)
    lease.take(now() - SESSION)
    assert await client.send(0, SYNC)
    assert written == [False]
    connecting["made"][0].open = False
    connecting["seconds"]["connect"] = -1.0
    client.force_metadata_update = lambda: None
    with pytest.raises(NodeNotReadyError):
        await client.send(0, PRODUCE)


async def test_records_wait_for_the_lease_and_fail_when_it_is_lost(server: EmbeddedBroker):
    lease = Lease(SESSION)
    async with AIOKafkaProducer(bootstrap_servers=server.address, acks="all") as producer:
        send_under(lease, producer)
        lease.take(now())
        held = await producer.send("out", b"held", partition=0)
        first = await renewed_until(held, lease)
        lease.renew(now())
        await asyncio.sleep(1.2 * SESSION)
        waiting = await producer.send("out", b"waits", partition=0)
        await asyncio.sleep(SESSION)
        assert not waiting.done()
        assert (await renewed_until(waiting, lease)).offset == first.offset + 1
        await asyncio.sleep(1.2 * SESSION)
        late = await producer.send("out", b"too late", partition=0)
        await asyncio.sleep(0.1)
        lease.lose()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(late, 60)
        lease.take(now())
        again = await producer.send("out", b"again", partition=0)
        after = await renewed_until(again, lease)
    assert after.offset == first.offset + 2
