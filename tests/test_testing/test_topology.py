"""What a topology shows of the service, with one worker."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from time import process_time
from typing import Any

import pytest
from pydantic import ValidationError

from models.aggregate.record import is_customer
from models.btyd import BgNbd
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.outputs import Outputs
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.outgoing import OUTPUTS, NewTopic, Output, Stage
from streams.retention import MONTH
from streams.settings import Settings
from streams.testing import (
    NotPublished,
    NotSettled,
    Topology,
    running_test,
    running_topology,
    shop_settings,
)
from streams.topics import plan
from streams.transport.batches import RecordBatch
from streams.transport.producer import OutgoingRecord


def fitted(currency: str = "EUR") -> Parameters:
    return Parameters(
        version="v1",
        currency=currency,
        fitted_until=datetime(2026, 1, 1, tzinfo=UTC),
        customers=100,
        log_likelihood=-1.0,
        purchases=BgNbd(r=0.25, alpha=4.0, a=0.8, b=2.5),
    )


async def test_silence_makes_at_risk(topology: Topology) -> None:
    await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03")
    await topology.advance(days=200)
    change = await topology.segment_changes.last("c1", "lifecycle")
    assert change.current == "at risk"


async def test_the_first_order_is_valued_as_of_its_time(topology: Topology) -> None:
    await topology.orders.placed("c1", total="40.00", at="2026-01-03")
    update = await topology.updates.last("c1")
    assert update.as_of == datetime(2026, 1, 3, 12, tzinfo=UTC)
    assert update.realised.margin == 12.0  # 30 %
    assert update.currency == "EUR"
    changes = await topology.segment_changes.of("c1")
    assert [(c.dimension, c.previous, c.current) for c in changes] == [
        ("lifecycle", None, "new"),
        ("tier", None, "bronze"),
        ("best-ever", None, "others"),
        ("behaviour", None, "one-time"),
    ]


async def test_it_starts_with_less_than_50_milliseconds_of_processor_time() -> None:
    took = []
    for _ in range(20):
        began = process_time()
        async with running_topology():
            took.append(process_time() - began)
    # The least of them: Python may collect garbage in between.
    assert min(took) < 0.05


def test_a_topology_that_has_ended_is_freed_with_all_its_workers() -> None:
    ended: list[weakref.ref[object]] = []

    async def live_and_end() -> None:
        for _ in range(3):
            async with running_topology(workers=3) as topology:
                ended.append(weakref.ref(topology))
                ended.extend(weakref.ref(each.app) for each in topology.workers)
                await topology.orders.placed("c1", 40)
                await topology.updates.last("c1")
                await topology.stop_worker()
                await topology.kill_worker()

    def alive() -> int:
        gc.collect()
        return sum(each() is not None for each in ended)

    with running_test.watched():
        for _ in range(2):  # some in one event loop, and others in another
            asyncio.run(live_and_end())
        assert len(ended) == 2 * 3 * (1 + 3)
        # The last ones, for the report of a failed test; without their workers.
        assert alive() <= running_test.MOST
    assert alive() == 0


async def test_an_event_that_says_no_time_happens_now(topology: Topology) -> None:
    await topology.orders.placed("c1", 40)
    assert (await topology.updates.last("c1")).as_of == topology.clock.time


async def test_the_clock_starts_where_it_is_told_to() -> None:
    async with running_topology(start="2030-02-01") as topology:
        assert topology.clock.time == datetime(2030, 2, 1, 12, tzinfo=UTC)


async def test_a_past_event_leaves_the_clock_and_a_later_one_takes_it_along(
    topology: Topology,
) -> None:
    began = topology.clock.time
    await topology.orders.placed("c1", 40, at="2026-01-03")
    assert topology.clock.time == began
    await topology.orders.placed("c1", 40, at="2027-01-03")
    assert topology.clock.time == datetime(2027, 1, 3, 12, tzinfo=UTC)
    assert await topology.dead_letters.all() == []


async def test_a_clock_that_was_set_refuses_what_claims_to_be_later(topology: Topology) -> None:
    topology.clock.set("2026-01-01")
    await topology.orders.placed("c1", 40, at="2026-01-03")
    letter = await topology.dead_letters.last("c1")
    assert (letter.reason, letter.field) == ("future", "data.placed_at")
    assert topology.clock.time == datetime(2026, 1, 1, 12, tzinfo=UTC)


async def test_the_clock_moves_by_a_time_or_to_one_and_never_back(topology: Topology) -> None:
    await topology.advance(days=1, hours=2)
    assert topology.clock.time == datetime(2026, 7, 2, 14, tzinfo=UTC)
    await topology.advance(to="2026-08-01")
    assert topology.clock.time == datetime(2026, 8, 1, 12, tzinfo=UTC)
    with pytest.raises(ValueError, match="does not go back"):
        await topology.advance(to="2026-07-01")


@pytest.mark.parametrize("begin", ["2026-03-28T12:00", "2026-03-29T01:30", "2026-10-25T02:30"])
async def test_a_day_is_24_hours_where_summer_time_begins_and_ends(begin: str) -> None:
    economics = Economics(currency="EUR", timezone="Europe/Berlin")
    async with running_topology(shop_settings(economics=economics), start=begin) as topology:
        for _ in range(3):
            before = topology.clock.now()
            await topology.advance(hours=1)
            assert topology.clock.now() - before == 3_600_000
        before = topology.clock.now()
        await topology.advance(days=1)
        assert topology.clock.now() - before == 24 * 3_600_000


async def test_a_clock_that_was_set_or_taken_along_goes_on_in_hours() -> None:
    economics = Economics(currency="EUR", timezone="Europe/Berlin")
    settings = shop_settings(economics=economics)
    async with running_topology(settings, start="2026-01-01") as topology:
        await topology.orders.placed("c1", 40, at="2026-03-29T01:30")
        await topology.advance(hours=2)
        assert topology.clock.time == datetime(2026, 3, 29, 2, 30, tzinfo=UTC)
        topology.clock.set("2026-03-29T01:30")
        await topology.advance(hours=2)
        assert topology.clock.time == datetime(2026, 3, 29, 2, 30, tzinfo=UTC)


async def test_time_passes_by_a_time_or_up_to_one(topology: Topology) -> None:
    began = topology.clock.time
    with pytest.raises(ValueError, match="not both"):
        await topology.advance(days=5, to="2026-11-01")
    assert topology.clock.time == began


async def test_records_bear_the_time_of_the_clock(topology: Topology) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    now = topology.clock.now()
    written = await topology.topic("shop.orders") + await topology.topic("clv.updates")
    assert [record.timestamp for record in written] == [now, now]


async def test_a_currency_without_a_rate_is_a_dead_letter(topology: Topology) -> None:
    await topology.orders.placed("c1", "40.00 USD")
    assert (await topology.dead_letters.last("c1")).reason == "no-exchange-rate"


async def test_a_rate_converts() -> None:
    economics = Economics(currency="USD", exchange_rates={"EUR": Decimal("1.5")})
    async with running_topology(shop_settings(economics=economics)) as topology:
        await topology.orders.placed("c1", "40.00 EUR")
        assert (await topology.updates.last("c1")).totals.gross == 60.0


async def test_every_event_type_is_accepted(topology: Topology) -> None:
    order = await topology.orders.placed("c1", "100", cost_of_goods="60.00", channel="web")
    await topology.orders.refunded(
        "c1", "10.00 EUR", order=order.data.order_id, cost_recovered="4.00 EUR"
    )
    cancelled = await topology.orders.placed("c1", "7")
    await topology.orders.cancelled("c1", cancelled.data.order_id)
    ticket = (await topology.support.opened("c1", channel="phone", complaint=True)).data.ticket_id
    await topology.support.resolved("c1", ticket, minutes=10)
    await topology.support.rated("c1", ticket, 4)
    await topology.support.answered("c1", 9)
    await topology.customers.acquired("c1", "5.00", campaign="spring")
    assert await topology.dead_letters.all() == []
    update = await topology.updates.last("c1")
    assert update.totals.orders == 1
    assert update.totals.complaints == 1
    # 100 - 60 sold, 10 given back, goods of 4 got back; ten minutes at 0.60; 5 for the campaign.
    assert update.realised.model_dump() == {
        "margin": 34.0,
        "cost_to_serve": 6.0,
        "acquisition_cost": 5.0,
        "total": 23.0,
    }
    assert (await topology.customer("c1")).version == update.version


async def test_what_the_contracts_refuse_is_not_published(topology: Topology) -> None:
    with pytest.raises(ValidationError, match="decimal text"):
        await topology.orders.placed("c1", "-40.00 EUR")
    with pytest.raises(TypeError, match=r"order\.placed has no chanel"):
        await topology.orders.placed("c1", "40.00", chanel="web")
    with pytest.raises(TypeError, match="write"):
        await topology.orders.placed("c1", 40.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="currency of the whole event"):
        await topology.orders.placed("c1", "40.00 EUR", cost_of_goods="4 USD")
    assert await topology.topic("shop.orders") == []


async def test_an_amount_has_one_currency(topology: Topology) -> None:
    with pytest.raises(ValueError, match=r"'40\.00 EUR' is not in USD"):
        await topology.orders.placed("c1", "40.00 EUR", currency="USD")
    with pytest.raises(ValueError, match="is not in USD"):
        await topology.support.resolved("c1", "t1", cost="4 EUR", currency="USD")
    assert await topology.topic("shop.orders") == []
    event = await topology.orders.placed("c1", "40.00", cost_of_goods="4 USD", currency="USD")
    assert (event.data.currency, event.data.cost_of_goods) == ("USD", "4")
    event = await topology.orders.refunded("c1", "1.00 USD", currency="usd")
    assert event.data.currency == "USD"


async def test_names_of_topics_that_there_are_not_are_refused(topology: Topology) -> None:
    wrong = "clv.updats"
    listed = r"no topic is named 'clv\.updats'; there are clv-customers-changelog,.* clv\.updates,"
    with pytest.raises(ValueError, match=listed):
        topology.freeze(wrong)
    with pytest.raises(ValueError, match=listed):
        topology.release(wrong)
    with pytest.raises(ValueError, match=listed):
        topology.fail_next_send(wrong)
    with pytest.raises(ValueError, match=listed):
        await topology.publish(wrong, "c1", b"{}")
    with pytest.raises(ValueError, match=listed):
        await topology.topic(wrong)
    assert not any(
        is_customer(record.key) for record in await topology.topic("clv-customers-changelog")
    )


async def test_partitions_that_there_are_not_are_refused(topology: Topology) -> None:
    for partition in (-1, topology.partitions):
        with pytest.raises(
            ValueError, match=rf"shop\.orders has the partitions 0 to 3, not {partition}"
        ):
            await topology.publish("shop.orders", "c1", b"{}", partition=partition)
    assert await topology.topic("shop.orders") == []
    records = [await topology.publish("clv.models", key, b"{}") for key in ("a", "b", None, "c")]
    assert {record.partition for record in records} == {0}, "it has a single partition"


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        ("{}", [], "the value of a record is bytes or None, not '{}'"),
        (b"{}", {"a": b"1"}, "headers are pairs of text and bytes"),
        (b"{}", [("a", "1")], "headers are pairs of text and bytes"),
        (b"{}", ["a"], "headers are pairs of text and bytes"),
    ],
)
async def test_what_no_producer_sends_is_refused_before_a_worker_sees_it(
    topology: Topology, value: Any, headers: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        await topology.publish("shop.orders", "c1", value, headers)
    await topology.publish("shop.orders", "c1", b"{}", [("a", None)])  # type: ignore[list-item]
    assert len(await topology.dead_letters.all()) == 1


async def test_a_record_that_is_no_event_comes_back_as_it_was(topology: Topology) -> None:
    record = await topology.publish("shop.orders", "c1", b"no json", [("h", b"1")])
    letter = await topology.dead_letters.last("c1")
    assert letter.reason == "not-json"
    assert (letter.value, letter.headers) == (b"no json", (("h", b"1"),))
    assert (letter.topic, letter.partition, letter.offset) == (
        record.topic,
        record.partition,
        record.offset,
    )


async def test_events_in_bulk_are_worked_on_in_their_order(topology: Topology) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    def event(number: int) -> tuple[str, dict[str, object]]:
        customer = f"c{number % 10}"
        return customer, {
            "customer_id": customer,
            "order_id": f"o{number}",
            "placed_at": moment,
            "currency": "EUR",
            "total": "2.00",
        }

    events = [
        cloud_event(
            "orders", "order.placed", source="/s", event_id=str(number), time=moment,
            data=data, customer_id=customer,
        )
        for number in range(1_000)
        for customer, data in [event(number)]
    ]  # fmt: skip
    assert await topology.publish_events(events) == 1_000
    current = await topology.updates.current()
    assert sorted(current) == [f"c{number}" for number in range(10)]
    assert {update.totals.gross for update in current.values()} == {200.0}
    assert await topology.cache.size() == 10


def told(topic: str, event_type: str, customer: str, at: datetime, **data: Any) -> OutgoingEvent:
    return cloud_event(
        topic, event_type, source="/s", event_id=f"{event_type} {at}", time=at,
        data={"customer_id": customer, **data}, customer_id=customer,
    )  # fmt: skip


def two_orders(customer: str) -> list[OutgoingEvent]:
    return [
        told(
            "orders", "order.placed", customer, at,
            order_id=f"o{at.month}", placed_at=at, total="40.00", currency="EUR",
        )
        for at in (datetime(2026, month, 3, tzinfo=UTC) for month in (1, 3))
    ]  # fmt: skip


async def came(topology: Topology, customer: str) -> tuple[list[tuple[str, str]], int]:
    """Changes of a customer's lifecycle, and removals."""
    changes = await topology.segment_changes.of(customer)
    lifecycle = [(c.previous or "", c.current) for c in changes if c.dimension == "lifecycle"]
    return lifecycle, len(await topology.removals.of(customer))


async def test_what_went_in_together_is_worked_on_before_a_record_goes_to_another_topic(
    topology: Topology,
) -> None:
    await topology.publish_events(two_orders("c1"))
    await topology.customers.erased("c1", at="2026-06-01")
    assert await came(topology, "c1") == ([("", "new"), ("new", "active")], 1)


async def test_what_goes_in_together_waits_for_a_record_of_another_topic(
    topology: Topology,
) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    await topology.orders.placed("c1", 40, at="2026-03-03")
    at = datetime(2026, 6, 1, tzinfo=UTC)
    await topology.publish_events([told("identities", "customer.erased", "c1", at, erased_at=at)])
    assert await came(topology, "c1") == ([("", "new"), ("new", "active")], 1)


async def test_events_of_several_topics_that_go_in_together_keep_each_customers_order(
    topology: Topology,
) -> None:
    at = datetime(2026, 6, 1, tzinfo=UTC)
    erased = told("identities", "customer.erased", "c1", at, erased_at=at)
    assert await topology.publish_events([*two_orders("c1"), erased, *two_orders("c2")]) == 5
    assert await came(topology, "c1") == ([("", "new"), ("new", "active")], 1)
    assert (await topology.updates.last("c2")).totals.orders == 2
    assert "customer 'c1'" in topology.history()
    assert "customer 'c2'" in topology.history()


async def test_the_cache_has_what_was_published(topology: Topology) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    await topology.orders.placed("c2", 400, at="2026-01-03")
    first, second = await topology.updates.last("c1"), await topology.updates.last("c2")
    score = await topology.cache.get("c1")
    assert score is not None
    assert score.clv == first.clv
    assert await topology.cache.top(10) == [("c2", second.clv), ("c1", first.clv)]
    assert await topology.cache.members("lifecycle", "new") == ["c2", "c1"]
    totals = await topology.cache.totals("tier")
    assert totals["bronze"].customers == 2
    assert await topology.cache.get("c3") is None


async def test_parameters_are_in_use_from_when_they_are_given(topology: Topology) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    await topology.use_parameters(fitted())
    await topology.orders.placed("c2", 40, at="2026-01-03")
    assert (await topology.updates.last("c1")).model.version == "prior"
    assert (await topology.updates.last("c2")).model.version == "v1"
    [published] = await topology.topic("clv.models")
    assert Parameters.model_validate_json(published.value or b"") == fitted()
    with pytest.raises(ValueError, match="currency is EUR"):
        await topology.use_parameters(fitted("USD"))
    with pytest.raises(ValueError, match="currency is EUR"):
        topology.give_parameters(fitted("USD"))


async def test_with_parameters_everybody_is_valued_anew_if_it_is_asked_for(
    topology: Topology,
) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    await topology.use_parameters(fitted(), revalue=True)
    update = await topology.updates.last("c1")
    assert (update.model.version, update.as_of) == ("v1", topology.clock.time)


async def test_erased_is_removed_everywhere(topology: Topology) -> None:
    await topology.orders.placed("c1", 40, at="2026-01-03")
    await topology.customers.erased("c1", at="2026-02-01")
    assert (await topology.removals.last("c1")).reason == "erased"
    assert await topology.cache.get("c1") is None
    with pytest.raises(NotPublished, match="tombstone"):
        await topology.updates.last("c1")
    with pytest.raises(NotPublished, match="no record"):
        await topology.customer("c1")


async def test_merged_across_partitions_is_one_customer(topology: Topology) -> None:
    customers = [f"c{number}" for number in range(8)]
    for customer in customers:
        await topology.orders.placed(customer, 10, at="2026-01-03")
    for gone in customers[1:]:
        await topology.customers.merged("c0", gone, at="2026-02-01")
    homes = {record.partition for record in await topology.topic("shop.orders")}
    assert len(homes) > 1, "the customers lie in one partition, so that nothing is shown"
    update = await topology.updates.last("c0")
    assert (update.totals.orders, update.totals.gross) == (8, 80.0)
    assert {(r.customer_id, r.merged_into) for r in await topology.removals.all()} == {
        (gone, "c0") for gone in customers[1:]
    }
    assert await topology.cache.size() == 1


async def test_what_was_not_published_is_said_in_words(topology: Topology) -> None:
    await topology.orders.placed("c1", 40)
    with pytest.raises(NotPublished, match=r"mood of 'c1' was published.*lifecycle: None to new"):
        await topology.segment_changes.last("c1", "mood")
    with pytest.raises(NotPublished, match="'c2'"):
        await topology.updates.last("c2")
    with pytest.raises(NotPublished, match="no dead letter"):
        await topology.dead_letters.last()


async def test_records_without_a_worker_do_not_settle() -> None:
    async with running_topology(workers=0) as topology:
        await topology.orders.placed("c1", 40)
        with pytest.raises(NotSettled, match=r"no worker runs, and nobody reads shop\.orders\["):
            await topology.updates.last("c1")


async def test_the_environment_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLV_PARTITIONS", "9")
    monkeypatch.setenv("CLV_ECONOMICS__CURRENCY", "JPY")
    assert (shop_settings().partitions, shop_settings().economics.currency) == (4, "EUR")


async def test_another_output_topic_is_one_entry(request: pytest.FixtureRequest) -> None:
    """It is planned and created, and gets its records once the customers' are stored."""

    def points(_batch: RecordBatch, outputs: Outputs) -> Iterator[OutgoingRecord]:
        for update in outputs.updates:
            yield update.key, b"%d points" % update.clv, []

    loyalty = Output(
        "loyalty", Stage.AFTER, points, at_home=True, topic=NewTopic("clv.loyalty", MONTH)
    )
    OUTPUTS.append(loyalty)
    request.addfinalizer(lambda: OUTPUTS.remove(loyalty))
    async with running_topology() as topology:
        await topology.orders.placed("c1", 40)
        await topology.settled()
        [record] = topology.broker.records("clv.loyalty")
        value = (await topology.updates.last("c1")).clv
    assert (record.key, record.value) == (b"c1", b"%d points" % value)
    assert any(topic.name == "clv.loyalty" for topic in plan(Settings()))
