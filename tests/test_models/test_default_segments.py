"""What the default rules promise of a single customer, and of shops without any season."""

import json
from collections import Counter, defaultdict
from datetime import date
from itertools import product

import numpy as np
import pytest

from models.btyd import BgNbd, MbgNbd, ParetoNbd
from models.calendar import month_of
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.features.seasons import season_of
from models.segments import Dimension, Rules, decisions
from models.segments.defaults import BEHAVIOUR
from models.segments.presets import PRESETS, RFM_KLAVIYO, RFM_SHOPIFY

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

WEEK = 7
MODELS = {
    "bg-nbd": PARAMETERS.purchases,
    "mbg-nbd": MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614),
    "pareto-nbd": ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669),
    "nobody-drops-out": BgNbd(r=0.8, alpha=3.0, a=0.01, b=50.0),
}


def ways(days, looks, purchases=None):
    """The lifecycle of a customer with orders on these days, as of later ones, and P(alive)."""
    parameters = purchases and PARAMETERS.model_copy(
        update={"model": purchases.name, "purchases": purchases}
    )
    context = Context(Economics(), parameters)
    records = [
        KafkaRecord(
            n, milliseconds(day), b"c",
            body("order.placed", {
                "customer_id": "c", "order_id": f"o{n}", "placed_at": at(day), "currency": "USD",
                "total": "30.00",
            }),
        )
        for n, day in enumerate(days)
    ]  # fmt: skip
    outputs = process({}, "o/0", records, context, now=milliseconds(3_000))
    states, seen = outputs.records, {}
    for offset, day in enumerate(looks):
        outputs = advance(states, [b"c"], "clock/0", offset, context, as_of=milliseconds(day))
        states = states | outputs.records
        update = json.loads(outputs.updates[0].document)["data"]
        seen[day] = update["segments"]["lifecycle"], update["p_alive"]
    return seen


@pytest.mark.parametrize("model", [None, *MODELS])
def test_who_buys_every_third_day_is_not_lost_on_holiday_nor_active_after_three_months(model):
    purchases = None if model is None else MODELS[model]
    last = 300
    seen = ways(
        range(0, last + 1, 3), [last, last + 22, last + 60, last + 92, last + 700], purchases
    )
    of = {day - last: segment for day, (segment, _) in seen.items()}
    assert of[0] == "active"
    assert of[22] in ("active", "needs attention")
    assert of[60] != "lost"
    assert of[92] not in ("active", "lost")
    if model != "nobody-drops-out":
        assert of[700] == "lost"


@pytest.mark.parametrize("model", [None, *MODELS])
def test_nobody_is_lost_whom_the_model_holds_for_alive(model):
    purchases = None if model is None else MODELS[model]
    for days in ([0], [0, 9], [0, 400], [0, 30, 60], range(0, 90, 4)):
        last = max(days)
        for segment, p_alive in ways(days, range(last, last + 1_500, 60), purchases).values():
            assert segment != "lost" or p_alive < 0.99


def test_from_new_on_a_silent_customer_only_goes_down():
    seen = ways([0], range(0, 1_000, 7))
    way = list(dict.fromkeys(segment for segment, _ in seen.values()))
    assert way == ["new", "needs attention", "at risk", "lost"]


def shop_without_seasons(rng, model, years, customers=4_000):
    """Purchase days of customers who join at any time."""
    until = int(365 * years)
    for _ in range(customers):
        day = float(rng.integers(until))
        bought = [int(day)]
        rate = rng.gamma(model.r) / model.alpha / WEEK
        drops = rng.beta(model.a, model.b)
        while rng.random() >= drops and (day := day + rng.exponential(1 / rate)) < until:
            bought.append(int(day))
        yield sorted(set(bought))


def seasonal(history, start, today):
    months = Counter(month_of(start + day) for day in history)
    season = season_of(months, today)
    return {
        "orders": len(history), "purchase_days": len(history), "purchase_months": len(months),
        "season_months": season.months, "season_ends": season.ends, "seasons": season.seasons,
        "seasons_missed": season.missed,
    }  # fmt: skip


def decided(dimension: Dimension, rows, quantiles=None):
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in rows[0]}
    rules = Rules(version="v", dimensions=(dimension,))
    [decided] = decisions(rules, rules.tables.held(columns, quantiles or {}, len(rows)))
    return [decided.segments[index] for index in decided.first]


@pytest.mark.heavy
@pytest.mark.parametrize("years", [1.1, 2, 3, 5])
@pytest.mark.parametrize(
    "model",
    [
        MODELS["mbg-nbd"],
        MbgNbd(r=0.5, alpha=10.0, a=0.7, b=2.5),
        MbgNbd(r=1.0, alpha=43.0, a=0.3, b=3.0),
        MbgNbd(r=200.0, alpha=200 * 26.0, a=1e-9, b=1.0),
    ],
    ids=["as CDNOW", "as the prior", "slow", "half-yearly"],
)
def test_hardly_anybody_is_called_seasonal_in_a_shop_without_seasons(model, years):
    rng = np.random.default_rng(8)
    start = date(2019, 3, 11).toordinal()
    today = start + int(365 * years) - 1
    rows = [seasonal(each, start, today) for each in shop_without_seasons(rng, model, years)]
    assert decided(BEHAVIOUR, rows).count("seasonal") < 0.01 * len(rows)


def test_who_returns_each_december_is_seasonal_and_stays_so_until_a_december_is_missed():
    days = [date(2019, 12, 3), date(2020, 11, 28), date(2020, 12, 9), date(2021, 12, 20)]

    def behaviour(known, today):
        history = [day.toordinal() for day in known]
        return decided(BEHAVIOUR, [seasonal(history, 0, today.toordinal())])

    assert behaviour(days[:1], date(2020, 10, 1)) == ["one-time"]
    assert behaviour(days[:2], date(2020, 12, 1)) == ["seasonal"]
    assert behaviour(days, date(2022, 12, 31)) == ["seasonal"]
    assert behaviour(days, date(2023, 1, 1)) == ["regular"]
    summer = [date(2019, 6, 3), date(2020, 7, 28), date(2021, 6, 20)]
    assert behaviour(summer[:2], date(2020, 8, 1)) == ["regular"]
    assert behaviour(summer, date(2021, 8, 1)) == ["seasonal"]


def test_a_preset_has_the_groups_of_its_product():
    assert set(RFM_SHOPIFY.rules_of) == {
        "prospects", "champions", "loyal", "active", "new", "promising", "needs attention",
        "almost lost", "at risk", "previously loyal", "dormant",
    }  # fmt: skip
    assert set(RFM_KLAVIYO.rules_of) - {"prospects"} == {
        "champions", "loyal", "recent", "needs attention", "at risk", "inactive",
    }  # fmt: skip
    assert all(name == dimension.name for name, dimension in PRESETS.items())


def scored(dimension, rows):
    """Segments of customers by days since the last order, orders and money, 1 to 100 of each."""
    names = ("days_since_last_order", "orders", "spent")
    quantiles = {
        each: np.array([float(each.name[1:])])
        for rule in dimension.rules
        for condition in rule.conditions
        for each in condition.quantiles
    }
    return decided(dimension, [dict(zip(names, row, strict=True)) for row in rows], quantiles)


def test_shopify_groups_by_recency_and_the_mean_of_the_other_two_scores():
    """Scores by hand: days up to 20 are 5, up to 40 are 4; orders and money above 80 are 5."""
    customers = {
        (5, 95, 95): "champions",  # 5, 5 and 5
        (5, 95, 45): "champions",  # 5, 5 and 3: a mean of 4
        (5, 45, 45): "active",  # 5, 3 and 3
        (5, 5, 5): "new",  # 5, 1 and 1
        (35, 70, 75): "loyal",  # 4, 4 and 4
        (35, 30, 45): "active",  # 4, 2 and 3: a mean of 2.5
        (35, 5, 30): "promising",  # 4, 1 and 2
        (55, 45, 45): "needs attention",  # 3, 3 and 3
        (55, 5, 5): "almost lost",  # 3, 1 and 1
        (75, 5, 5): "almost lost",  # 2, 1 and 1
        (95, 95, 70): "previously loyal",  # 1, 5 and 4: a mean of 4.5
        (95, 45, 45): "at risk",  # 1, 3 and 3
        (95, 5, 5): "dormant",  # 1, 1 and 1
    }
    assert scored(RFM_SHOPIFY, list(customers)) == list(customers.values())


def test_klaviyo_groups_by_scores_of_one_to_three():
    """Loyal has the scores 321, 322, 331, 232 and 233, as Klaviyo publishes them."""
    scores = list(product("123", repeat=3))
    number = {"1": 20, "2": 50, "3": 90}
    rows = [(100 - number[r], number[f], number[m]) for r, f, m in scores]
    groups = defaultdict(set)
    for group, score in zip(scored(RFM_KLAVIYO, rows), scores, strict=True):
        groups[group].add("".join(score))
    assert groups["loyal"] == {"321", "322", "331", "232", "233"}
    assert groups["champions"] == {"332", "333", "323"}
    assert groups["recent"] == {"311", "312", "313"}
    assert "111" in groups["inactive"]
    assert sum(map(len, groups.values())) == 27
