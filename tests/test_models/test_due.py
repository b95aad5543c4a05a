"""When to look at a silent customer again: never after a comparison has turned."""

from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.btyd import MODELS, GammaPoisson
from models.catching_up import QUIET
from models.context import Context
from models.due import EDGES, turns
from models.economics import Economics
from models.features import FEATURES, Silence
from models.segments import DEFAULT_RULES, Dimension, Rules
from models.standing import NO_DAY, Standing
from models.value import Row, moved, valued

from .parameters import PARAMETERS

ECONOMICS = Economics()
TODAY = date(2026, 1, 1).toordinal()
OF_VALUES = [name for name, each in FEATURES.items() if each.of and each.silence is Silence.DAILY]

models = st.builds(
    lambda kind, numbers: MODELS[kind](*numbers),
    st.sampled_from(sorted(MODELS)),
    st.tuples(st.floats(0.1, 3), st.floats(1, 30), st.floats(0.05, 3), st.floats(0.1, 5)),
)
"""Models of purchases, in weeks; each has four parameters."""


@st.composite
def rows(draw):
    """A customer with up to 20 purchase days."""
    days = draw(st.integers(0, 20))
    recency = draw(st.integers(days - 1, 700)) if days > 1 else 0
    since = draw(st.integers(0, 400)) if days else 0
    gross = draw(st.integers(1, 100)) * days * 10_000
    return Row(
        days, days, days, recency, recency + since, since, draw(st.integers(0, 3)), 0, 0, 0,
        gross - gross // max(days, 1), gross, 0, 0, 0, gross // 3, 50_000, 20_000,
    )  # fmt: skip


def rules_of(*limits):
    """Rules with one dimension for each comparison."""
    return Rules(
        version="v",
        dimensions=tuple(
            Dimension.model_validate(
                {
                    "name": f"d{number}",
                    "rules": [
                        {
                            "id": "yes",
                            "segment": "yes",
                            "all": [{"feature": name, "is": "at least", "bound": bound}],
                        },
                        {"id": "no", "segment": "no"},
                    ],
                }
            )
            for number, (name, bound) in enumerate(limits)
        ),
    )


def sides_of(standing, days):
    """Which comparisons hold on each of so many days, from the first."""
    of = Row(*(np.full(days + 1, float(each)) for each in standing.row))
    money = Row._fields.index("repeat_gross")
    of = Row(*of[:money], *(each / 10_000 for each in of[money:]))
    values = valued(moved(of, np.arange(days + 1.0)), standing.model, ECONOMICS)
    return np.array(
        [
            FEATURES[condition.feature].of(values)
            >= (
                condition.bound
                if isinstance(condition.bound, float)
                else standing.model.quantile(condition.feature, condition.bound)
            )
            for dimension in standing.rules.dimensions
            for rule in dimension.rules
            for condition in rule.conditions
        ]
    )


bounds = st.one_of(
    st.tuples(st.sampled_from(["p_alive", "p_purchase"]), st.floats(0.01, 0.99)),
    st.tuples(st.sampled_from(["T", "days_since_last_order"]), st.floats(0.5, 500)),
    st.tuples(st.sampled_from(["expected", "clv", "expected_purchases"]), st.floats(-10, 100)),
)


def turns_by_the_day(standing, days):
    """The days, of so many, on which a comparison is another than on the day before."""
    sides = sides_of(standing, days)
    turned = np.nonzero((sides[:, 1:] != sides[:, :-1]).any(axis=0))[0] + 1
    return [standing.day + int(day) for day in turned]


def parameters_of(model, contacts_per):
    return PARAMETERS.model_copy(
        update={
            "model": model.name,
            "purchases": model,
            "contacts_per": contacts_per,
            "contacts": GammaPoisson(shape=0.5, rate=2.0),
        }
    )


several = st.lists(rows(), min_size=1, max_size=5)
watched = st.lists(bounds, min_size=1, max_size=4, unique=True)
contacts_per = st.sampled_from(["purchase", "time"])


def standings_of(customers, model, limits, per):
    parameters, rules = parameters_of(model, per), rules_of(*limits)
    return [Standing(row, TODAY, parameters, rules, (), NO_DAY) for row in customers]


@given(several, models, watched, st.integers(0, 1_000), st.integers(0, 1_500))
def test_turns_are_found_to_the_day(customers, model, limits, known, days):
    """Contacts are counted by purchases, so that every feature moves one way."""
    standings = standings_of(customers, model, limits, "purchase")
    after, until = [TODAY + known] * len(standings), [TODAY + days] * len(standings)
    endless = turns(standings, after, [NO_DAY] * len(standings), ECONOMICS)
    for each, found, soon in zip(
        standings, turns(standings, after, until, ECONOMICS), endless, strict=True
    ):
        expected = [day for day in turns_by_the_day(each, days) if day > TODAY + known]
        assert [day for day in found if day <= TODAY + days] == expected
        # Of all time it is those of a stretch: the next ones, but perhaps not all of them.
        by_then = [day for day in soon if day <= TODAY + days]
        assert by_then == expected[: len(by_then)]
        assert bool(soon) >= bool(expected)


@given(several, models, watched, contacts_per, st.integers(0, 1_500), st.integers(0, 1_500))
def test_which_days_turn_does_not_depend_on_what_was_known(
    customers, model, limits, per, first, second
):
    """Also where a feature moves to and fro: from any day on the same days are found."""
    standings = standings_of(customers, model, limits, per)
    for each in standings:
        of_first, of_second = (
            all_turns(each, TODAY + start, TODAY + EDGES[-1]) for start in (first, second)
        )
        start = TODAY + max(first, second)
        assert [day for day in of_first if day > start] == [day for day in of_second if day > start]


def all_turns(standing, known, until):
    found = []
    while next_ := turns([standing], [known], [until], ECONOMICS)[0]:
        found += next_
        known = next_[-1]
    return found


def segments_of(context, row, days):
    """The segments in each of so many days, of who was in any of them the day before."""
    looked = context.rows()
    for day in range(days + 1):
        looked.add_standing(Standing(row, TODAY, *context_of(context), (), NO_DAY), TODAY + day)
    return looked.scores().decided(0).dimensions


def context_of(context):
    return context.model_at(0), context.rules


@given(several, models, watched, contacts_per)
def test_nobody_who_is_surely_steady_changes(customers, model, limits, per):
    context = Context(ECONOMICS, parameters_of(model, per), rules_of(*limits))
    rows = context.rows()
    for row in customers:
        rows.add_standing(Standing(row, TODAY, *context_of(context), (), NO_DAY), TODAY)
    rows.scores()
    every = np.arange(len(customers))
    for days in QUIET:
        steady = rows.steady(every, np.full(len(customers), days))
        for row, still in zip(customers, steady, strict=True):
            if still:
                for decisions in segments_of(context, row, days):
                    assert len(set(decisions.first)) == 1


@given(several, models, contacts_per, st.sampled_from(["", "needs attention", "lost", "active"]))
def test_nobody_who_is_surely_steady_changes_by_the_default_rules(customers, model, per, before):
    """With bounds to leave: whatever the customer was before the score that silence begins with."""
    context = Context(ECONOMICS, parameters_of(model, per), DEFAULT_RULES)
    read = tuple(0.0 for _ in DEFAULT_RULES.read)
    model_of, rules = context_of(context)
    rows = context.rows()
    for row in customers:
        rows.add_standing(Standing(row, TODAY, model_of, rules, read, NO_DAY), TODAY)
    rows.scores()
    every = np.arange(len(customers))
    for days in (QUIET[1], QUIET[3]):
        steady = rows.steady(every, np.full(len(customers), days))
        for row, still in zip(customers, steady, strict=True):
            if not still:
                continue
            looked = context.rows()
            for day in range(days + 1):
                standing = Standing(row, TODAY, model_of, rules, read, NO_DAY)
                looked.add_standing(standing, TODAY + day)
            for decisions in looked.scores().decided(0).dimensions:
                current, seen = before or None, set()
                for day in range(days + 1):
                    index = decisions.decide(day, current, None, 0, lambda _moment: 0)
                    current = decisions.segments[index]
                    seen.add(current)
                assert len(seen) == 1


def test_most_customers_are_surely_steady_for_a_while():
    """Bounds that told nothing would be safe too."""
    context = Context(ECONOMICS, PARAMETERS, DEFAULT_RULES)
    read = tuple(0.0 for _ in DEFAULT_RULES.read)
    rows = context.rows()
    for orders in range(2, 40):
        recency = 7 * (orders - 1)
        row = Row(orders, orders, orders, recency, recency + 1, 1, *[0] * 4, *[400_000] * 8)
        rows.add_standing(
            Standing(row, TODAY, context.model_at(0), context.rules, read, NO_DAY), TODAY
        )
    rows.scores()
    steady = rows.steady(np.arange(38), np.full(38, 7))
    assert steady.mean() > 0.9


@given(st.lists(rows(), min_size=2, max_size=4), models)
def test_a_customer_alone_and_in_a_batch_turns_on_the_same_day(customers, model):
    parameters, read = parameters_of(model, "time"), (0,) * len(DEFAULT_RULES.read)
    standings = [Standing(row, TODAY, parameters, DEFAULT_RULES, read, NO_DAY) for row in customers]
    known, until = [TODAY] * len(standings), [TODAY + 10_000] * len(standings)
    alone = [turns([each], known[:1], until[:1], ECONOMICS)[0] for each in standings]
    assert turns(standings, known, until, ECONOMICS) == alone


def test_rules_without_time_never_turn():
    row = Row(2, 2, 2, 10, 20, 10, *[0] * 12)
    standing = Standing(row, TODAY, PARAMETERS, rules_of(("orders", 1.0)), (), NO_DAY)
    assert turns([standing], [TODAY], [TODAY + 10_000], ECONOMICS) == [[]]
