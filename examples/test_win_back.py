"""What a team tests of its own: storefront, service and CRM together, without a server."""

from datetime import UTC, datetime
from decimal import Decimal

from crm import Crm
from storefront import Order, order_placed

from streams.testing import Topology

JANUARY = datetime(2026, 1, 3, 10, tzinfo=UTC)


async def tell(crm: Crm, topology: Topology) -> None:
    """Have the CRM read the topic from its beginning, as after the loss of its offsets."""
    for record in await topology.topic("clv.segment-changes"):
        assert record.value is not None
        crm.take(record.value)


async def test_our_orders_are_understood(topology: Topology) -> None:
    order = Order("1001", "c1", JANUARY, Decimal("40.00"), currency="GBP")
    await topology.publish("shop.orders", *order_placed(order))
    assert await topology.dead_letters.all() == []
    update = await topology.updates.last("c1")
    assert update.totals.gross == 46.0
    assert update.realised.margin == 18.4


async def test_an_order_that_is_published_twice_counts_once(topology: Topology) -> None:
    message = order_placed(Order("1001", "c1", JANUARY, Decimal("40.00")))
    await topology.publish("shop.orders", *message)
    await topology.publish("shop.orders", *message)
    assert (await topology.updates.last("c1")).totals.orders == 1


async def test_silence_begins_a_campaign(topology: Topology) -> None:
    crm = Crm()
    await topology.orders.placed("c1", "40.00", at="2026-01-03")
    await topology.advance(days=200)
    await tell(crm, topology)
    assert crm.segments("c1")["lifecycle"] == "at risk"
    assert crm.campaigns("c1") == ["welcome", "we miss you"]
    crm.close()


async def test_a_change_that_is_told_again_begins_no_second_campaign(topology: Topology) -> None:
    # The changes are told, but the value with them is not acknowledged: nothing is committed.
    topology.freeze("clv.updates")
    await topology.orders.placed("c1", "40.00", at="2026-01-03")
    await topology.still()
    await topology.kill_worker()
    topology.release()
    await topology.start_worker()
    told = [record.value for record in await topology.topic("clv.segment-changes")]
    assert len(told) == 2 * len(set(told)), "nothing was told again, so that this shows nothing"
    crm = Crm()
    await tell(crm, topology)
    assert crm.campaigns("c1") == ["welcome"]
    crm.close()


async def test_an_erased_customer_is_erased_here_too(topology: Topology) -> None:
    crm = Crm()
    await topology.orders.placed("c1", "40.00", at="2026-01-03")
    await topology.advance(days=200)
    await tell(crm, topology)
    assert crm.campaigns("c1") == ["welcome", "we miss you"]
    await topology.customers.erased("c1")
    await tell(crm, topology)
    assert (crm.segments("c1"), crm.campaigns("c1")) == ({}, [])
    crm.close()
