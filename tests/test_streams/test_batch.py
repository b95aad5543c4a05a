"""The core on a file: counts that add up, and values that do not depend on the order of events."""

import json
import math
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from models.context import Context
from models.contracts.outputs import ValueUpdated
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.prior import prior
from streams.batch import (
    BatchResult,
    end_of_day,
    fit_states,
    fold_events,
    score_events,
    score_states,
)
from streams.datasets import DATASETS
from streams.datasets.simulate import with_simulation
from streams.files.outgoing import OutgoingEvent, cloud_event

CONTEXT = Context(Economics())
AS_OF = datetime(2026, 1, 31, tzinfo=UTC)


def order(
    customer: str | None, number: int, day: int, total: str = "10.00", *, key: str | None = None
) -> OutgoingEvent:
    placed_at = datetime(2026, 1, day, 12, tzinfo=UTC)
    data = {"order_id": str(number), "placed_at": placed_at, "currency": "USD", "total": total}
    if customer is not None:
        data["customer_id"] = customer
    event = cloud_event(
        "orders",
        "order.placed",
        source="/shop",
        event_id=str(number),
        time=placed_at,
        data=data,
        customer_id=customer,
    )
    return event if key is None else event._replace(key=key.encode())


def documents(result: BatchResult) -> dict[str, dict]:
    """The published data by customer, without what counts evaluations."""
    found = {}
    for update in result.updates:
        data = json.loads(update.document)["data"]
        del data["version"]
        found[update.customer_id] = data
    return found


@pytest.fixture(scope="module")
def simulated() -> list[OutgoingEvent]:
    """All events of 150 customers of CDNOW, simulated ones included."""
    kept = {f"{number:05}".encode() for number in range(1, 151)}
    return [event for event in with_simulation(DATASETS["cdnow"], seed=1) if event.key in kept]


def test_every_event_is_counted_once():
    events = [
        order("anna", 1, 5),
        order("anna", 1, 5),
        order(None, 2, 6),
        order("bert", 3, 7, key="somebody-else"),
        order("carl", 4, 8, "-3.00"),
        OutgoingEvent("orders", b"dora", b"not json", [], datetime(2026, 1, 9, tzinfo=UTC)),
        order("anna", 5, 20)._replace(time=AS_OF + timedelta(seconds=1)),
    ]
    told: list[int] = []
    result = score_events(events, CONTEXT, AS_OF, told.append)
    assert (result.accepted, result.duplicates, result.left_out) == (2, 1, 1)
    assert result.dead_letters.total() == 3
    assert result.dead_letters["missing-customer"] == 1
    assert set(result.refusals) == set(result.dead_letters)
    assert result.events == len(events) == sum(told)
    assert {update.customer_id for update in result.updates} == {"anna", "bert"}
    assert set(result.states) == {b"anna", b"bert"}


def test_without_parameters_the_values_are_those_of_the_weak_prior():
    result = score_events([order("anna", 1, 1, "60.00"), order("anna", 2, 11)], CONTEXT, AS_OF)
    (update,) = result.updates
    data = ValueUpdated.model_validate_json(update.document).data
    assert (data.statistics.frequency, data.statistics.recency, data.statistics.T) == (1, 10, 30)
    model = prior("USD").purchases
    orders = model.expected_discounted_purchases(365, math.log(1.1) / 365, 1, 10, 30)
    assert data.expected.purchases == pytest.approx(float(orders), rel=1e-12)
    assert data.expected.total == pytest.approx(
        data.expected.purchases * 0.30 * 35 - data.expected.cost_to_serve
    )
    assert update.clv == pytest.approx(0.30 * 70 + data.expected.total)
    assert (data.model.name, data.model.version) == ("mbg-nbd", "prior")
    assert data.as_of == AS_OF


def test_the_order_of_events_changes_nothing(simulated):
    as_of = DATASETS["cdnow"].as_of
    in_time = score_events(simulated, CONTEXT, as_of)
    shuffled = score_events(random.Random(5).sample(simulated, len(simulated)), CONTEXT, as_of)
    assert documents(in_time) == documents(shuffled)
    assert len(documents(in_time)) == 150


def test_events_said_twice_change_nothing(simulated):
    as_of = DATASETS["cdnow"].as_of
    once = score_events(simulated, CONTEXT, as_of)
    twice = score_events([*simulated, *simulated], CONTEXT, as_of)
    assert documents(once) == documents(twice)
    assert twice.accepted + twice.duplicates == 2 * len(simulated)
    # An answer that a later one superseded is forgotten, so that it cannot be told again.
    surveys = sum(b'"survey.answered"' in event.value for event in simulated)
    assert 0 <= len(simulated) - twice.duplicates < surveys


def test_events_after_the_as_of_time_might_as_well_not_be_there(simulated):
    as_of = datetime(1997, 9, 1, tzinfo=UTC)
    before = [event for event in simulated if event.time < as_of]
    cut = score_events(simulated, CONTEXT, as_of)
    assert cut.left_out == len(simulated) - len(before) > 0
    assert documents(cut) == documents(score_events(before, CONTEXT, as_of))


def test_totals_are_those_of_the_file():
    """Orders, days and sums of every tenth customer, straight from the events."""
    events = [event for event in DATASETS["cdnow"].events() if event.key.endswith(b"7")]
    result = score_events(events, CONTEXT, DATASETS["cdnow"].as_of)
    orders: Counter[str] = Counter()
    gross: defaultdict[str, Decimal] = defaultdict(Decimal)
    days: defaultdict[str, set] = defaultdict(set)
    for event in events:
        data = json.loads(event.value)["data"]
        orders[data["customer_id"]] += 1
        gross[data["customer_id"]] += Decimal(data["total"])
        days[data["customer_id"]].add(event.time.date())
    found = documents(result)
    assert set(found) == set(orders)
    for customer, data in found.items():
        assert data["totals"]["orders"] == orders[customer]
        assert data["totals"]["gross"] == float(gross[customer])
        bought = days[customer]
        assert data["statistics"]["frequency"] == len(bought) - 1
        assert data["statistics"]["recency"] == (max(bought) - min(bought)).days
        assert data["statistics"]["T"] == (DATASETS["cdnow"].as_of.date() - min(bought)).days


def test_scoring_states_leaves_them_as_they_are(simulated):
    as_of = DATASETS["cdnow"].as_of
    folded = fold_events(simulated, CONTEXT, as_of)
    before = dict(folded.states)
    first = score_states(folded.states, CONTEXT, as_of)
    assert score_states(folded.states, CONTEXT, as_of) == first
    assert folded.states == before


def test_a_time_without_an_offset_is_refused():
    with pytest.raises(ValueError, match="offset"):
        score_events([], CONTEXT, datetime(2026, 1, 1))  # noqa: DTZ001 - that is the point


def fitted_until(events: list[OutgoingEvent], last: datetime) -> Parameters:
    """Parameters fitted on the events up to and including a day."""
    folded = fold_events(events, CONTEXT, end_of_day(last, Economics()))
    return fit_states(folded.states, last, "week", Economics()).parameters


def test_a_fit_counts_the_whole_last_day_and_nothing_after_it():
    last = datetime(1997, 9, 30, 1, tzinfo=UTC)
    events = [event for event in DATASETS["cdnow"].events() if int(event.key) % 10 == 0]
    cut = [event for event in events if event.time.date() <= last.date()]
    whole = fitted_until(events, last)
    assert len(cut) < len(events)
    assert whole == fitted_until(cut, last)
    assert whole.customers == 2_357


def test_a_fit_does_not_depend_on_the_order_of_the_customers(simulated):
    as_of = DATASETS["cdnow"].as_of
    states = list(fold_events(simulated, CONTEXT, as_of).states.items())
    first = fit_states(dict(states), as_of, "day", Economics())
    for seed in range(20):
        shuffled = dict(random.Random(seed).sample(states, len(states)))
        assert fit_states(shuffled, as_of, "day", Economics()) == first


def test_customers_with_a_later_order_are_refused_or_left_out(simulated):
    as_of, end = DATASETS["cdnow"].as_of, datetime(1998, 3, 31, tzinfo=UTC)
    states = fold_events(simulated, CONTEXT, as_of).states
    with pytest.raises(ValueError, match="after `until`"):
        fit_states(states, end, "day", Economics())
    fitted = fit_states(states, end, "day", Economics(), leave_out_later=True)
    late = {
        json.loads(event.value)["data"]["customer_id"]
        for event in simulated
        if b'"order.placed"' in event.value and event.time.date() > end.date()
    }
    assert fitted.parameters.customers == 150 - len(late) < 150


def test_a_day_ends_where_the_shop_is():
    berlin = Economics(timezone="Europe/Berlin")
    moment = datetime(2026, 6, 30, 23, 0, tzinfo=UTC)
    assert end_of_day(moment, berlin).astimezone(UTC) == datetime(2026, 7, 1, 22, tzinfo=UTC)
