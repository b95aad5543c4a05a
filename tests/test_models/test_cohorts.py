"""Cohorts equal a query over the events and the published values, to the cent."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from models.aggregate.record import customers
from models.aggregate.summary import Summary
from models.cohorts import Cohorts
from models.context import Context
from models.economics import Economics
from streams.batch import fold_events, score_states
from streams.files.outgoing import cloud_event

duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")

START = datetime(2026, 1, 3, 10, tzinfo=UTC)
END = datetime(2026, 12, 31, tzinfo=UTC)
PHONE_COST, MINUTE_COST, MARGIN = 8, 0.6, 0.3


def publish(topic, kind, name, who, at, **data):
    return cloud_event(
        topic, kind, source="/shop", event_id=f"{kind}/{name}", time=at, customer_id=who, data=data
    )


def shop(seed):
    """Events, and the same as rows: customer, time, what, amount, cost or share recovered."""
    rng = random.Random(seed)
    events, rows = [], []
    for number in range(60):
        who = f"c{number}"
        at = START + timedelta(hours=rng.randrange(5_000))
        if rng.random() < 0.8:
            cost = rng.randrange(100, 3_000) / 100
            events.append(
                publish("customers", "customer.acquired", who, who, at, customer_id=who,
                        acquired_at=at, currency="USD", cost=f"{cost:.2f}", channel="search")
            )  # fmt: skip
            rows.append((who, at, "acquired", cost))
        for order in range(rng.randrange(6)):
            name, at = f"{who}/{order}", at + timedelta(hours=rng.randrange(1, 700))
            if at >= END:
                break
            total = rng.randrange(500, 20_000) / 100
            goods = rng.choice([None, round(total * 0.6, 2)])
            costs = {} if goods is None else {"cost_of_goods": f"{goods:.2f}"}
            events.append(
                publish("orders", "order.placed", name, who, at, order_id=name, customer_id=who,
                        placed_at=at, currency="USD", total=f"{total:.2f}", **costs)
            )  # fmt: skip
            later = at + timedelta(hours=rng.randrange(1, 600))
            what = rng.choice(["", "", "refund", "cancel", "phone", "minutes"])
            what = what if later < END else ""
            if what != "cancel":
                earned = total - goods if goods is not None else total * MARGIN
                rows.append((who, at, "order", earned))
            if what == "refund":
                events.append(
                    publish("orders", "order.refunded", name, who, later, refund_id=name,
                            order_id=name, refunded_at=later, currency="USD",
                            amount=f"{total / 4:.2f}", cost_recovered="1.00")
                )  # fmt: skip
                rows.append((who, later, "refund", round(1 - float(f"{total / 4:.2f}"), 2)))
            elif what == "cancel":
                events.append(
                    publish("orders", "order.cancelled", name, who, later, order_id=name,
                            cancelled_at=later)
                )  # fmt: skip
            elif what:
                events.append(
                    publish("support", "ticket.opened", name, who, later, ticket_id=name,
                            opened_at=later, channel="phone")
                )  # fmt: skip
                cost = PHONE_COST
                if what == "minutes":
                    events.append(
                        publish("support", "ticket.resolved", name, who, later, ticket_id=name,
                                resolved_at=later, handling_minutes=25)
                    )  # fmt: skip
                    cost = 25 * MINUTE_COST
                rows.append((who, later, "contact", -cost))
    return events, rows


QUERY = """
with cohort as (
    select who, strftime(min(happened), '%Y-%m') as month from facts
    where what = 'order' group by who
), each_one as (
    select who, sum(case when what = 'acquired' then amount else 0 end) as cost,
        sum(case when what = 'acquired' then -amount else amount end) as realised
    from facts group by who
)
select coalesce(month, ''), count(*), sum(realised), sum(clv - realised), sum(cost)
from each_one left join cohort using (who) join valued using (who) group by 1
"""

EARNED = """
with cohort as (
    select who, date_trunc('month', min(happened)) as begins
    from facts where what = 'order' group by who
)
select strftime(begins, '%Y-%m'),
    greatest(date_diff('month', begins, date_trunc('month', happened)), 0), sum(amount)
from facts join cohort using (who) where what <> 'acquired' group by 1, 2
"""


@pytest.mark.parametrize("seed", range(4))
def test_cohorts_equal_a_query_over_the_events(seed):
    events, rows = shop(seed)
    config = Economics(margin=MARGIN)
    context = Context(config, erasure_key=b"k" * 32)
    states = fold_events(events, context, END).states
    values = {each.customer_id: each.clv for each in score_states(states, context, END)}
    cohorts = Cohorts(config)
    for key, record in customers(states):
        summary = Summary(record.aggregate, config)
        cohorts.add(record.aggregate, summary, values[key.decode()])
    with duckdb.connect() as db:
        db.execute("create table facts (who text, happened timestamp, what text, amount double)")
        db.executemany(
            "insert into facts values (?, ?, ?, ?)",
            [(who, at.replace(tzinfo=None), what, amount) for who, at, what, amount in rows],
        )
        db.execute("create table valued (who text, clv double)")
        db.executemany("insert into valued values (?, ?)", list(values.items()))
        wanted = {month: found for month, *found in db.execute(QUERY).fetchall()}
        earned = defaultdict(dict)
        for month, number, amount in db.execute(EARNED).fetchall():
            earned[month][number] = amount
    found = cohorts.cohorts(END.toordinal())
    assert len(found) > 5
    assert {each.month for each in found} == wanted.keys()
    for each in found:
        number, realised, expected, cost = wanted[each.month]
        assert each.customers == number
        assert each.realised == pytest.approx(realised, abs=0.005)
        assert each.expected == pytest.approx(expected, abs=0.005)
        assert each.acquisition_cost == pytest.approx(cost, abs=0.005)
        total, paid_back = 0.0, None
        for month in range(len(each.by_month)):
            total += earned[each.month].get(month, 0.0)
            assert each.by_month[month] == pytest.approx(total, abs=0.005)
            if paid_back is None and cost and total >= cost:
                paid_back = month + 1
        assert each.paid_back == paid_back
        if each.month:
            assert each.by_month[-1] - each.acquisition_cost == pytest.approx(
                each.realised, abs=0.005
            )


def test_what_was_compacted_is_earned_at_the_latest():
    config = Economics(remembered=2)
    context = Context(config, erasure_key=b"k" * 32)
    events = [
        publish("orders", "order.placed", str(n), "anna", START + timedelta(days=31 * n),
                order_id=str(n), customer_id="anna", placed_at=START + timedelta(days=31 * n),
                currency="USD", total="100.00", cost_of_goods="60.00")
        for n in range(5)
    ]  # fmt: skip
    states = fold_events(events, context, END).states
    ((_, record),) = customers(states)
    cohorts = Cohorts(config)
    cohorts.add(record.aggregate, Summary(record.aggregate, config), 300.0)
    (only,) = cohorts.cohorts((START + timedelta(days=130)).toordinal())
    assert (only.at_latest, only.realised, only.expected) == (1, 200.0, 100.0)
    assert only.by_month == (0.0, 0.0, 120.0, 160.0, 200.0)
