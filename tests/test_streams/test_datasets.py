import csv
import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import islice

import pytest

from models.contracts import Reason, Refused, decode
from streams.datasets import DATASETS
from streams.datasets.dataset import EXAMPLES, Dataset, DatasetMissingError
from streams.datasets.simulate import simulated_events, with_simulation
from streams.files.outgoing import OutgoingEvent


def available(name: str) -> Dataset:
    dataset = DATASETS[name]
    try:
        dataset.path()
    except DatasetMissingError as missing:
        pytest.skip(str(missing))
    return dataset


def rows_of(dataset: Dataset) -> list[dict[str, str]]:
    with gzip.open(dataset.path(), "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def simulation_of(name: str) -> list[OutgoingEvent]:
    """All events of a data set with its simulation; several tests read them."""
    return list(with_simulation(available(name), seed=1))


@pytest.fixture(params=sorted(DATASETS))
def dataset(request: pytest.FixtureRequest) -> Dataset:
    return available(request.param)


@pytest.fixture
def cdnow() -> Dataset:
    return available("cdnow")


class TestCdnow:
    def test_has_the_orders_and_customers_of_the_papers(self, cdnow):
        events = list(cdnow.events())
        assert len(events) == 69_659
        assert len({event.key for event in events}) == 23_570

    def test_amounts_are_the_text_of_the_file_and_add_up_to_the_cent(self, cdnow):
        rows = rows_of(cdnow)
        data = {body["order_id"]: body for body in bodies(cdnow.events())}
        for line, row in enumerate(rows, start=2):
            order = data[f"cdnow-{line}"]
            assert order["total"] == row["amount"]
            assert order["customer_id"] == row["customer_id"]
            assert order["placed_at"] == f"{row['date']}T12:00:00Z"
            assert order["currency"] == "USD"
        assert sum(Decimal(order["total"]) for order in data.values()) == sum(
            Decimal(row["amount"]) for row in rows
        )

    def test_keeps_orders_of_amount_zero(self, cdnow):
        assert sum(Decimal(body["total"]) == 0 for body in bodies(cdnow.events())) == 80

    def test_is_read_from_the_source_tree_without_any_setting(self, monkeypatch):
        monkeypatch.delenv("CLV_DATA_DIR", raising=False)
        assert DATASETS["cdnow"].path() == EXAMPLES / "cdnow_orders.csv.gz"


class TestOnlineRetail:
    def test_every_invoice_is_an_event_and_negative_ones_are_refunds(self):
        dataset = available("online-retail")
        rows = {row["invoice"]: row for row in rows_of(dataset)}
        events = list(dataset.events())
        assert len(events) == len(rows) == 25_900
        types: Counter[str] = Counter()
        net = Decimal(0)
        for event in events:
            envelope = json.loads(event.value)
            data = envelope["data"]
            types[envelope["type"]] += 1
            if envelope["type"] == "order.refunded":
                row = rows[data["refund_id"]]
                signed = f"-{data['amount']}"
                assert "order_id" not in data
                assert data["refunded_at"] == row["time"]
            else:
                row = rows[data["order_id"]]
                signed = data["total"]
                assert data["placed_at"] == row["time"]
            assert signed == row["amount"]
            assert data.get("customer_id", "") == row["customer_id"]
            assert data["currency"] == "GBP"
            net += Decimal(signed)
        assert types == {"order.placed": 25_900 - 3_838, "order.refunded": 3_838}
        assert net == sum(Decimal(row["amount"]) for row in rows.values())

    def test_invoices_without_a_customer_are_published_and_refused_for_it(self):
        events = [e for e in available("online-retail").events() if e.key is None]
        assert len(events) == 3_710
        for event in events:
            with pytest.raises(Refused) as refused:
                decode(event.key, event.value, event.headers)
            # A refund needs no customer in its data, but somebody has to be named.
            assert refused.value.reason in {Reason.MISSING_CUSTOMER, Reason.MISSING_FIELD}
            assert refused.value.field == "data.customer_id"

    def test_no_amount_has_more_decimals_than_the_contract_allows(self):
        for row in rows_of(available("online-retail")):
            assert len(row["amount"].partition(".")[2]) <= 4

    @pytest.mark.parametrize("directory", [None, "empty"])
    def test_a_missing_file_says_its_name_and_where_to_get_it(
        self, directory, monkeypatch, tmp_path
    ):
        if directory is None:
            monkeypatch.delenv("CLV_DATA_DIR", raising=False)
        else:
            monkeypatch.setenv("CLV_DATA_DIR", str(tmp_path))
        with pytest.raises(DatasetMissingError) as missing:
            DATASETS["online-retail"].events()
        for words in ("online_retail_invoices.csv.gz", "UCI", "352", "CLV_DATA_DIR"):
            assert words in str(missing.value)


class TestEveryDataset:
    def test_events_are_in_order_of_time_and_counted(self, dataset):
        times = [event.time for event in dataset.events()]
        assert times == sorted(times)
        assert (times[0], times[-1]) == (dataset.first, dataset.last)
        assert len(times) == dataset.orders + dataset.refunds

    def test_as_of_is_the_midnight_after_the_last_event(self, dataset):
        assert dataset.as_of.tzinfo is UTC
        assert dataset.as_of.time() == datetime.min.time()
        assert timedelta(0) < dataset.as_of - dataset.last <= timedelta(days=1)

    def test_event_ids_are_unique_and_stable(self, dataset):
        first, again = identities(dataset.events()), identities(dataset.events())
        assert first == again
        assert len(set(first)) == len(first)

    @pytest.mark.parametrize("simulated", [False, True])
    def test_the_contracts_accept_every_event_of_a_customer(self, dataset, simulated):
        events = simulation_of(dataset.name) if simulated else dataset.events()
        for event in events:
            if event.key is not None:
                accepted = decode(event.key, event.value, event.headers)
                assert accepted.data.customer_id == event.key.decode()
                assert accepted.time == accepted.data.occurred_at == event.time


class TestSimulation:
    def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(self, cdnow):
        orders = list(islice(cdnow.events(), 3_000))
        assert list(simulated_events(orders, 1)) == list(simulated_events(orders, 1))
        assert values(simulated_events(orders, 1)) != values(simulated_events(orders, 2))

    def test_the_order_of_the_input_does_not_matter(self, cdnow):
        orders = list(islice(cdnow.events(), 3_000))
        shuffled = random.Random(0).sample(orders, len(orders))
        assert list(simulated_events(shuffled, 1)) == list(simulated_events(orders, 1))

    def test_a_customer_is_simulated_alike_alone_and_among_others(self, cdnow):
        orders = list(islice(cdnow.events(), 3_000))
        together = list(simulated_events(orders, 1))
        busiest = Counter(event.key for event in together).most_common(1)[0][0]
        alone = simulated_events([order for order in orders if order.key == busiest], 1)
        assert list(alone) == [event for event in together if event.key == busiest]

    def test_says_that_it_is_simulated(self, cdnow):
        for event in simulated_events(islice(cdnow.events(), 3_000), 1):
            envelope = json.loads(event.value)
            assert envelope["id"].startswith("simulated-")
            if not envelope["type"].startswith("order."):
                assert envelope["source"] == "/simulated/cdnow"

    def test_refunds_and_cancellations_are_of_known_orders_and_their_source(self, cdnow):
        """Order ids are scoped by source: under another source they would take back nothing."""
        orders = {
            (envelope["source"], envelope["data"]["order_id"]): envelope["data"]
            for envelope in map(json.loads, values(cdnow.events()))
        }
        seen: Counter[str] = Counter()
        for event in simulation_of("cdnow"):
            envelope = json.loads(event.value)
            data = envelope["data"]
            if envelope["type"] not in {"order.refunded", "order.cancelled"}:
                continue
            order = orders[envelope["source"], data["order_id"]]
            assert order["customer_id"] == data["customer_id"]
            assert order["placed_at"] < envelope["time"]
            if envelope["type"] == "order.cancelled":
                seen["cancelled"] += 1
            else:
                amount, total = Decimal(data["amount"]), Decimal(order["total"])
                assert 0 < amount <= total
                assert Decimal(data.get("cost_recovered", 0)) <= amount
                seen["full" if amount == total else "partial"] += 1
        assert min(seen["cancelled"], seen["full"], seen["partial"]) > 100

    def test_has_every_kind_of_event_that_the_shop_did_not_record(self):
        types = Counter(json.loads(value)["type"] for value in values(simulation_of("cdnow")))
        assert set(types) == {
            "order.placed",
            "order.refunded",
            "order.cancelled",
            "ticket.opened",
            "ticket.resolved",
            "ticket.rated",
            "survey.answered",
            "customer.acquired",
        }
        assert types["ticket.opened"] > types["ticket.resolved"] > types["ticket.rated"]

    def test_some_tickets_are_complaints_and_most_are_not(self):
        opened = [
            body["complaint"] for body in bodies(simulation_of("cdnow")) if "complaint" in body
        ]
        assert 0.15 < sum(opened) / len(opened) < 0.25

    def test_merges_both_streams_by_time_and_ends_with_the_data(self, dataset):
        merged = simulation_of(dataset.name)
        times = [event.time for event in merged]
        assert times == sorted(times)
        assert times[-1] < dataset.as_of
        real = [event for event in merged if b'"id":"simulated-' not in event.value]
        assert values(real) == values(dataset.events())
        assert len(set(identities(merged))) == len(merged)

    def test_events_without_a_customer_are_passed_over(self):
        anonymous = [e for e in available("online-retail").events() if e.key is None]
        assert list(simulated_events(anonymous, 1)) == []


def values(events):
    return [event.value for event in events]


def bodies(events):
    return [json.loads(event.value)["data"] for event in events]


def identities(events):
    envelopes = map(json.loads, values(events))
    return [(envelope["source"], envelope["id"]) for envelope in envelopes]
