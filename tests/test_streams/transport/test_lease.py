"""Without the group's word nothing is written; what comes too late never is."""

import asyncio
from time import monotonic
from types import SimpleNamespace

import pytest
from aiokafka import AIOKafkaProducer

from streams.embedded import EmbeddedBroker
from streams.transport.lease import Lease, LeaseLost, renew_by_heartbeats, send_under

SESSION = 0.5


def test_a_lease_lasts_a_session_from_the_asking_and_not_from_the_answer():
    lease = Lease(SESSION)
    assert lease.held
    lease.renew(monotonic() - SESSION)
    assert not lease.held
    lease.renew(monotonic())
    assert lease.held
    lease.renew(monotonic() - 10 * SESSION)
    assert lease.held


def test_whoever_never_joined_has_nothing_to_lose():
    lease = Lease(SESSION)
    lease.lose()
    assert lease.held
    lease.renew(monotonic())
    lease.lose()
    assert not lease.held


async def test_heartbeats_renew_and_a_forgotten_member_has_lost():
    answers = [True, False]
    forgotten = []

    async def beat():
        return answers.pop(0)

    coordinator = SimpleNamespace(
        _do_heartbeat=beat, reset_generation=lambda: forgotten.append(True)
    )
    lease = Lease(SESSION)
    renew_by_heartbeats(lease, SimpleNamespace(_coordinator=coordinator))
    assert await coordinator._do_heartbeat()
    await asyncio.sleep(SESSION)
    assert not await coordinator._do_heartbeat()
    assert not lease.held
    coordinator.reset_generation()
    assert forgotten == [True]
    with pytest.raises(LeaseLost, match="gave this worker up"):
        await lease.wait()


async def test_records_wait_for_the_lease_and_fail_when_it_is_lost(server: EmbeddedBroker):
    lease = Lease(SESSION)
    async with AIOKafkaProducer(bootstrap_servers=server.address) as producer:
        send_under(lease, producer)
        lease.renew(monotonic())
        first = await producer.send_and_wait("out", b"held", partition=0)
        lease.renew(monotonic())
        await asyncio.sleep(1.2 * SESSION)
        waiting = await producer.send("out", b"waits", partition=0)
        await asyncio.sleep(SESSION)
        assert not waiting.done()
        lease.renew(monotonic())
        assert (await asyncio.wait_for(waiting, 5)).offset == first.offset + 1
        await asyncio.sleep(1.2 * SESSION)
        late = await producer.send("out", b"too late", partition=0)
        await asyncio.sleep(0.1)
        lease.lose()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(late, 5)
        lease.renew(monotonic())
        after = await producer.send_and_wait("out", b"again", partition=0)
    assert after.offset == first.offset + 2
