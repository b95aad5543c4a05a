"""Rules: which are refused, which one decides, what a customer was before, and the reason."""

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from models.aggregate.record import decode_record
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.quantiles import percent_of, quantiles_of
from models.segments import (
    DEFAULT_RULES,
    Dimension,
    Quantile,
    Rules,
    decisions,
    explain,
    named_rules,
)

from .events import KafkaRecord, at, body, milliseconds
from .memoryless import without_memory
from .parameters import PARAMETERS


def asked(feature, is_, bound, leave=None):
    return {"feature": feature, "is": is_, "bound": bound, "leave": leave}


def dimension(*rules, name="d"):
    """Rules as (id, conditions, stay); the last one holds for everybody."""
    made = [
        {"id": id_, "segment": f"in {id_}", "all": conditions, "stay_days": stay}
        for id_, conditions, stay in rules
    ]
    return Dimension.model_validate({"name": name, "rules": made})


# Which rules are refused


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ([("a", [asked("order", "at least", 1)], 0), ("b", [], 0)], "unknown feature 'order'"),
        ([("a", [asked("clv", "at least", "p91")], 0), ("b", [], 0)], "unknown quantile 'p91'"),
        ([("a", [asked("gross", "at least", "p90")], 0), ("b", [], 0)], "no quantiles of gross"),
        ([("a", [asked("orders", "at least", "gold")], 0), ("b", [], 0)], "'gold'"),
        ([("a", [asked("clv", "at least", 5, 6)], 0), ("b", [], 0)], "must be below the bound"),
        ([("a", [asked("clv", "at most", 5, 4)], 0), ("b", [], 0)], "must be above the bound"),
        ([("a", [asked("clv", "above", "p50", "p60")], 0), ("b", [], 0)], "must be below"),
        ([("a", [], 0), ("b", [], 0)], "the rule has no conditions"),
        ([("a", [asked("clv", "above", 5)], 0)], "the last rule must have no conditions"),
        ([("a", [asked("clv", "above", 5)], 0), ("b", [], 3)], "stay_days have no effect"),
        ([("a", [asked("clv", "above", 5)], 0), ("a", [], 0)], "two rules have this id"),
    ],
)  # fmt: skip
def test_rules_that_cannot_be_meant_are_refused_by_name(rules, words):
    with pytest.raises(ValidationError, match=words):
        dimension(*rules)


def test_two_dimensions_of_one_name_are_refused():
    one = dimension(("a", [], 0))
    with pytest.raises(ValidationError, match="two dimensions have this name"):
        Rules(version="v", dimensions=(one, one))


P = "p_purchase"


@pytest.mark.parametrize(
    ("conditions", "reached"),
    [
        ([[asked(P, "at least", 0.5)], [asked(P, "at least", 0.25)]], True),
        ([[asked(P, "at least", 0.25)], [asked(P, "at least", 0.5)]], False),
        ([[asked(P, "at least", 0.5)], [asked(P, "at least", 0.5)]], False),
        ([[asked(P, "above", 0.5)], [asked(P, "at least", 0.5)]], True),
        ([[asked(P, "at least", 1.5)], [asked(P, "at least", 0.5)]], False),
        ([[asked("orders", "below", 0)], [asked(P, "at least", 0.5)]], False),
        ([[asked("orders", "at least", 3), asked("orders", "at most", 2)]], False),
        # Together, neither alone, the first two leave nothing to the third.
        ([[asked(P, "at least", 0.3)], [asked(P, "below", 0.3)], [asked(P, "above", 0.9)]], False),
        ([[asked("mean_gap", "at least", 3)], [asked("mean_gap", "below", 3)]], True),
        ([[asked("clv", "at least", "p60")], [asked("clv", "at least", "p90")]], False),
        ([[asked("clv", "at least", "p90")], [asked("clv", "at least", "p60")]], True),
        # Nobody knows which of these two is greater.
        ([[asked("clv", "at least", "p90")], [asked("clv", "at least", 100)]], True),
        ([[asked("clv", "at least", 100)], [asked("clv", "at least", "p90")]], True),
    ],
)  # fmt: skip
def test_a_rule_that_can_never_be_reached_is_refused(conditions, reached):
    rules = [(f"r{number}", each, 0) for number, each in enumerate(conditions)]
    if reached:
        dimension(*rules, ("rest", [], 0))
    else:
        with pytest.raises(ValidationError, match="can never be reached"):
            dimension(*rules, ("rest", [], 0))


# Which rule decides


def decide(dimension, values, previous=None, since=None, as_of=0, quantiles=None):
    """The segment for one customer, whose features are given; days are thousands of ms."""
    columns = {name: np.array([value], dtype=float) for name, value in values.items()}
    bounds = {each: np.array([number]) for each, number in (quantiles or {}).items()}
    rules = Rules(version="v", dimensions=(dimension,))
    [decided] = decisions(rules, rules.tables.held(columns, bounds, 1))
    index = decided.decide(0, previous, since, as_of, lambda time: time // 1_000)
    assert decided.kept or decided.stays or index == decided.first[0]
    return decided.segments[index]


TIER = dimension(
    ("gold", [asked("clv", "at least", 100, 80)], 0),
    ("silver", [asked("clv", "at least", 50, 40)], 0),
    ("bronze", [], 0),
)


@pytest.mark.parametrize(
    ("previous", "clv", "current"),
    [
        (None, 85, "in silver"),
        ("in silver", 85, "in silver"),
        ("in gold", 85, "in gold"),
        ("in gold", 80, "in gold"),
        ("in gold", 79, "in silver"),
        # From gold the bound to enter silver counts, not the one to leave it.
        ("in gold", 45, "in bronze"),
        ("in silver", 45, "in silver"),
        ("in silver", 100, "in gold"),
        ("in bronze", 45, "in bronze"),
        ("a segment of former rules", 85, "in silver"),
    ],
)
def test_who_is_in_a_segment_leaves_it_at_the_bound_to_leave(previous, clv, current):
    assert decide(TIER, {"clv": clv}, previous) == current


STAY = dimension(
    ("gold", [asked("clv", "at least", 100)], 10),
    ("silver", [asked("clv", "at least", 50)], 5),
    ("bronze", [], 0),
)


@pytest.mark.parametrize(
    ("previous", "day", "clv", "current"),
    [
        ("in gold", 9, 0, "in gold"),
        ("in gold", 10, 0, "in bronze"),
        ("in silver", 4, 0, "in silver"),
        ("in silver", 5, 0, "in bronze"),
        # A rule before it takes the customer at once.
        ("in silver", 1, 100, "in gold"),
    ],
)
def test_a_minimum_stay_holds_against_later_rules(previous, day, clv, current):
    assert decide(STAY, {"clv": clv}, previous, since=0, as_of=day * 1_000) == current


def test_a_stay_without_a_known_beginning_does_not_count():
    assert decide(STAY, {"clv": 0}, "in gold") == "in bronze"


def test_quantiles_are_bounds_and_a_missing_one_holds_for_nobody():
    rules = dimension(
        ("top", [asked("orders", "at least", "p95", "p90")], 0),
        ("rest", [], 0),
    )
    high, low = Quantile("orders", "p95"), Quantile("orders", "p90")
    known = {high: 9.0, low: 6.0}
    assert decide(rules, {"orders": 9}, quantiles=known) == "in top"
    assert decide(rules, {"orders": 7}, quantiles=known) == "in rest"
    assert decide(rules, {"orders": 7}, "in top", quantiles=known) == "in top"
    missing = dict.fromkeys(known, np.nan)
    assert decide(rules, {"orders": 10**9}, "in top", quantiles=missing) == "in rest"


def one_by_one(dimension, values, previous, since, as_of):
    """The rules read aloud: the first that holds, at the bounds to leave for one's own segment."""
    for rule in dimension.rules:
        mine = rule.segment == previous
        if mine and since is not None and (as_of - since) // 1_000 < rule.stay_days:
            return rule.segment
        compare = {
            "at least": lambda a, b: a >= b, "above": lambda a, b: a > b,
            "at most": lambda a, b: a <= b, "below": lambda a, b: a < b,
        }  # fmt: skip

        def met(each, mine=mine, compare=compare):
            either = [each.bound] + ([each.leave] if mine and each.leave is not None else [])
            return any(compare[each.is_](values[each.feature], bound) for bound in either)

        if all(map(met, rule.all)) and (not rule.any or any(map(met, rule.any))):
            return rule.segment
    raise AssertionError("the last rule holds for everybody")


NUMBERS = st.integers(0, 6)


@st.composite
def conditions(draw):
    feature, is_ = (
        draw(st.sampled_from(["clv", "expected"])),
        draw(st.sampled_from(["at least", "below"])),
    )
    bound = draw(NUMBERS)
    step = draw(st.integers(0, 2))
    leave = None if not step else bound + (-step if is_ == "at least" else step)
    return asked(feature, is_, bound, leave)


@st.composite
def dimensions(draw):
    rules = [
        {
            "id": f"r{number}",
            "segment": draw(st.sampled_from("abc")),
            "all": draw(st.lists(conditions(), max_size=2)),
            "any": draw(st.lists(conditions(), min_size=1, max_size=2)),
            "stay_days": draw(st.integers(0, 3)),
        }
        for number in range(draw(st.integers(0, 3)))
    ]
    try:
        return Dimension.model_validate(
            {
                "name": "d",
                "rules": [*rules, {"id": "rest", "segment": draw(st.sampled_from("abc"))}],
            }
        )
    except ValidationError as error:
        if "can never be reached" not in str(error):
            raise
        return TIER


@given(dimensions(), st.lists(st.tuples(NUMBERS, NUMBERS, st.integers(0, 3)), max_size=12))
def test_the_vectorised_decision_is_that_of_the_rules_read_aloud(rules, steps):
    """A customer's way through changing features, decided both ways."""
    previous, since, now = None, None, 0
    for clv, expected, days in steps:
        now += days * 1_000
        values = {"clv": clv, "expected": expected}
        current = decide(rules, values, previous, since, now)
        assert current == one_by_one(rules, values, previous, since, now)
        if current != previous:
            previous, since = current, now


def test_a_rule_called_unreachable_decides_for_nobody():
    """Tried out on a fine grid, with values missing too."""
    levels = (0.25, 0.5, 0.75)
    grid = [*np.arange(0, 1.01, 0.05), np.nan]
    for first, second in product(product(("at least", "below"), levels), repeat=2):
        rules = [("a", [asked(P, *first)], 0), ("b", [asked(P, *second)], 0), ("rest", [], 0)]
        met = {
            "at least": lambda value, bound: value >= bound,
            "below": lambda value, bound: value < bound,
        }
        reached = any(
            met[second[0]](value, second[1]) and not met[first[0]](value, first[1])
            for value in grid
        )
        if reached:
            dimension(*rules)
        else:
            with pytest.raises(ValidationError, match="the rule can never be reached"):
                dimension(*rules)


# Quantiles


def test_quantiles_part_the_population_as_they_say():
    column = np.arange(1_000.0)
    found = quantiles_of({"clv": column, "mean_gap": np.full(10, np.nan)})
    assert found.keys() == {"clv"}
    for name, bound in found["clv"].items():
        assert np.mean(column <= bound) * 100 == pytest.approx(percent_of(name), abs=0.1)
    assert percent_of("p0") is percent_of("p100") is percent_of("p7") is percent_of("q50") is None


# A customer's way


def way(rules, steps):
    """The changes of a customer: orders as (day, total), ticks as (day, None)."""
    context = Context(Economics(), PARAMETERS, rules)
    states, changes = {}, []
    for offset, (day, total) in enumerate(steps):
        if total is None:
            outputs = advance(states, [b"c"], "clock/0", offset, context, as_of=milliseconds(day))
        else:
            data = {"customer_id": "c", "order_id": f"o{day}", "placed_at": at(day),
                    "currency": "USD", "total": f"{total}.00"}  # fmt: skip
            record = KafkaRecord(offset, milliseconds(day), b"c", body("order.placed", data))
            outputs = process(states, "o/0", [record], context, now=milliseconds(1_000))
            assert not outputs.dead_letters
        states |= outputs.records
        changes += [json.loads(document)["data"] for _, document in outputs.segment_changes]
    return changes, decode_record(states[b"c"])


def rules_of(*dimensions):
    return named_rules(dimensions, "mine")


RECENT = dimension(
    ("here", [asked("days_since_last_order", "at most", 10, 20)], 0),
    ("gone", [], 0),
    name="presence",
)


def test_a_change_says_which_rule_decided_by_what_and_in_words():
    rules = rules_of(RECENT)
    changes, record = way(rules, [(0, 50), (15, None), (21, None)])
    first, last = changes
    assert [each["current"] for each in changes] == ["in here", "in gone"]
    assert (first["cause"], last["cause"]) == ("event", "time")
    assert first["rules"] == last["rules"] == rules.version
    assert first["model"] == {"name": "bg-nbd", "version": "cdnow-published"}
    assert first["reason"] == {
        "rule": "here",
        "text": "In here, because the number of days since the last order is 0, at most 10.",
        "conditions": [
            {"feature": "days_since_last_order", "value": 0.0, "is": "at most", "bound": 10.0}
        ],
        "values": {"days_since_last_order": 0.0},
    }
    assert last["reason"] == {
        "rule": "gone",
        "text": "In gone, because the number of days since the last order is 21, "
        "above 20, where in here ends.",
        "conditions": [
            {
                "feature": "days_since_last_order",
                "value": 21.0,
                "is": "above",
                "bound": 20.0,
                "ends": "here",
            }
        ],
        "values": {"days_since_last_order": 21.0},
    }
    assert record.since == {"presence": milliseconds(20.5)}  # midnight


def test_a_quantile_is_named_beside_its_value():
    changes, _ = way(DEFAULT_RULES, [(0, 50)])
    [tier] = [each for each in changes if each["dimension"] == "tier"]
    [condition] = tier["reason"]["conditions"]
    assert tier["current"] == "silver"
    assert (condition["quantile"], condition["bound"]) == ("p60", 5.0)
    assert tier["reason"]["text"].endswith(" USD, at least 5 USD (p60).")


def test_a_dimension_that_the_rules_lose_is_left_once():
    """The customer's segment in it is over, for subscribers too."""
    context = Context(Economics(), PARAMETERS, rules_of(RECENT, TIER))
    states = {}
    data = {
        "customer_id": "c",
        "order_id": "o",
        "placed_at": at(0),
        "currency": "USD",
        "total": "9",
    }
    record = KafkaRecord(0, milliseconds(0), b"c", body("order.placed", data))
    states |= process({}, "o/0", [record], context, now=milliseconds(9)).records
    fewer = Context(Economics(), PARAMETERS, rules_of(RECENT))
    for offset, expected in ((0, [("d", "in bronze", None)]), (1, [])):
        outputs = advance(
            states, [b"c"], "clock/0", offset, fewer, as_of=milliseconds(1), cause="rules"
        )
        states |= outputs.records
        found = [json.loads(document)["data"] for _, document in outputs.segment_changes]
        assert [(e["dimension"], e["previous"], e["current"]) for e in found] == expected
        assert all(each["cause"] == "rules" for each in found)
    stored = decode_record(states[b"c"])
    assert stored.segments.keys() == stored.since.keys() == {"presence"}


def test_hysteresis_depends_on_the_order_in_which_a_customer_is_scored():
    """The aggregate is the same; the segment is that of the way there (docs/decisions)."""
    rules = rules_of(
        dimension(
            ("big", [asked("monetary_value", "at least", 100, 60)], 0), ("small", [], 0), name="d"
        )
    )
    orders = [(0, 10), (10, 100), (20, 60)]
    up_then_down, one = way(rules, orders)
    other_way, other = way(rules, [orders[0], orders[2], orders[1]])
    assert one.aggregate == other.aggregate
    assert [each["current"] for each in up_then_down] == ["in small", "in big"]
    assert [each["current"] for each in other_way] == ["in small"]
    assert one.clv == other.clv


def test_the_documented_reason_is_what_the_rules_give():
    text = (Path(__file__).parents[2] / "docs/outputs.md").read_text()
    [example] = re.findall(r"^```json\n(\{\"rule\".*?)^```", text, re.MULTILINE | re.DOTALL)
    documented = json.loads(example)
    lifecycle = DEFAULT_RULES.by_name["lifecycle"]
    index = lifecycle.places[documented["rule"]]
    values = documented["values"]
    assert tuple(values) == lifecycle.evidence[index]
    columns = {name: np.array([value], dtype=float) for name, value in values.items()}
    rules = Rules(version="v", dimensions=(lifecycle,))
    [decided] = decisions(rules, rules.tables.held(columns, {}, 1))
    assert decided.decide(0, "active", None, 0, int) == index
    reason = explain(lifecycle, index, "active", values, lambda *_: np.nan, currency="EUR")
    assert json.loads(json.dumps(reason)) == documented


def test_of_conditions_joined_by_any_those_that_hold_explain_nothing_that_ended():
    """Where one alternative held, the others did not end the rule."""
    rules = Dimension.model_validate(
        {
            "name": "d",
            "rules": [
                {
                    "id": "a",
                    "segment": "a",
                    "all": [asked("clv", "at least", 10)],
                    "any": [asked("orders", "at least", 3), asked("expected", "above", 5)],
                },
                {"id": "rest", "segment": "rest"},
            ],
        }
    )
    for orders, clv, expected in (
        (4, 9, [("clv", "below")]),
        (2, 9, [("clv", "below"), ("orders", "below"), ("expected", "at most")]),
        (2, 11, [("orders", "below"), ("expected", "at most")]),
    ):
        values = {"clv": clv, "orders": orders, "expected": 0}
        found = explain(rules, 1, "a", values, lambda *_: np.nan, currency="EUR")["conditions"]
        assert [(each["feature"], each["is"]) for each in found] == expected
        assert {each["ends"] for each in found} == {"a"}


@given(st.permutations([(0, 10), (3, 100), (40, 60), (90, 5), (200, 30)]))
def test_without_bounds_to_leave_and_stays_the_order_of_arrival_decides_nothing(orders):
    """Once all events have come, the segments are those of the facts and the time."""
    rules = without_memory(DEFAULT_RULES)
    _, record = way(rules, [*orders, (260, None)])
    _, in_order = way(rules, [*sorted(orders), (260, None)])
    assert record.segments == in_order.segments
    assert record.aggregate == in_order.aggregate
