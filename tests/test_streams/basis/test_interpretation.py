"""Which states can be valued under other settings than those they were built under."""

import pytest

from models.aggregate.compacted import Compacted, Money
from models.aggregate.record import CustomerRecord, encode_record
from models.aggregate.state import Aggregate
from models.currencies import HOME, NUMBERS
from models.economics import Economics
from models.events.orders import Order
from models.rates import read_ecb
from streams.basis.findings import Kind
from streams.basis.interpretation import judge_interpretation
from streams.basis.record import Basis

EUROS = {"currency": "EUR", "exchange_rates": {"USD": "0.9"}}
DAILY = {"currency": "EUR", "daily_rates": read_ecb(["Date,USD", "1970-01-01,1.1"])}


COMPLAINTS = {"complaint_topics": ["damaged", "complaint"]}


def found(state, topics=("complaint",), **settings):
    basis = Basis(4, {}, {}, "USD", "UTC", complaint_topics=topics and list(topics))
    states = {b"c1": encode_record(CustomerRecord(state)), b"\0basis": b"no customer"}
    return list(judge_interpretation(basis, states, Economics(**settings)))


def bought(currency):
    return Aggregate(orders={1: Order(0, 5, 0, 10_000, currency, -1)})


def summed(currency):
    return Aggregate(
        compacted=Compacted(orders=1, last_day=719_163, money={currency: Money(gross=10_000)})
    )


def contacted(**sums):
    return Aggregate(compacted=Compacted(contacts=3, tickets_until=(5, 1), **sums))


@pytest.mark.parametrize(
    ("state", "settings", "kind", "said"),
    [
        (contacted(), COMPLAINTS, Kind.COMPLAINT_TOPICS, "tickets of 1 customers were summed up"),
        (
            contacted(complaints=1),
            {"complaint_topics": []},
            Kind.COMPLAINT_TOPICS,
            "tickets about ['complaint'], and they are those about [] now",
        ),
        (bought(HOME), EUROS, Kind.CURRENCY, "amounts of 1 customers were converted to USD"),
        (summed(HOME), EUROS, Kind.CURRENCY, "amounts of 1 customers were converted to USD"),
        (summed(NUMBERS["USD"]), DAILY, Kind.CURRENCY, "were converted to USD and summed up"),
        (bought(NUMBERS["GBP"]), EUROS, Kind.CURRENCY, "an amount in GBP of 1970-01-01"),
        (summed(HOME), {"timezone": "Asia/Tokyo"}, Kind.TIMEZONE, "summed up by days in UTC"),
    ],
)
def test_what_cannot_be_applied_is_told_with_what_to_do(state, settings, kind, said):
    [finding] = found(state, **settings)
    assert finding.kind is kind
    assert said in finding.lost
    assert "CLV_ECONOMICS__" in finding.remedy or "add the rate" in finding.remedy


@pytest.mark.parametrize(
    ("state", "settings"),
    [
        (bought(NUMBERS["USD"]), EUROS),
        (bought(NUMBERS["USD"]), DAILY),
        (summed(NUMBERS["USD"]), EUROS),
        (bought(HOME), {"timezone": "Asia/Tokyo"}),
        (summed(HOME), {"margin": 0.9}),
        (summed(HOME), COMPLAINTS),
        (bought(HOME), COMPLAINTS),
        (contacted(), {"complaint_topics": ["complaint"]}),
    ],
)
def test_everything_else_is_applied(state, settings):
    assert found(state, **settings) == []


def test_the_remedy_is_the_former_setting_as_a_shell_takes_it():
    [finding] = found(contacted(), ("b", "a"), **COMPLAINTS)
    assert """CLV_ECONOMICS__COMPLAINT_TOPICS='["b", "a"]'""" in finding.remedy


def test_a_basis_of_a_version_that_did_not_note_the_topics_takes_the_present_ones():
    assert found(contacted(), None, **COMPLAINTS) == []
