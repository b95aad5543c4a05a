"""When to look at a silent customer again: never after a comparison has turned."""

from datetime import date

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.btyd import MODELS, GammaPoisson
from models.context import Context
from models.due import FAR, QUIET, SOON, later, soon
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


@given(several, models, watched, st.sampled_from(["purchase", "time"]), st.integers(0, SOON))
def test_the_turns_of_the_first_month_are_found_to_the_day(customers, model, limits, per, days):
    parameters, rules = parameters_of(model, per), rules_of(*limits)
    standings = [Standing(row, TODAY, parameters, rules, (), NO_DAY) for row in customers]
    found = soon(standings, [TODAY + days] * len(standings), ECONOMICS)
    assert found == [turns_by_the_day(each, days) for each in standings]


@given(several, models, watched, st.integers(SOON, 1_500))
def test_the_first_turn_after_that_is_found_to_the_day(customers, model, limits, days):
    """Contacts are counted by purchases, so that every feature moves one way."""
    parameters, rules = parameters_of(model, "purchase"), rules_of(*limits)
    standings = [Standing(row, TODAY, parameters, rules, (), NO_DAY) for row in customers]
    silent = [each for each in standings if not turns_by_the_day(each, SOON)]
    found = later(silent, [TODAY + days] * len(silent), ECONOMICS)
    for each, day in zip(silent, found, strict=True):
        turns = turns_by_the_day(each, days)
        assert day == turns[0] if turns else day > TODAY + days


@given(several, models, watched)
def test_nothing_turns_in_quiet_days(customers, model, limits):
    context = Context(ECONOMICS, parameters_of(model, "purchase"), rules_of(*limits))
    rows = context.rows()
    for row in customers:
        rows.add(Standing(row, TODAY, context.model_at(0), context.rules, (), NO_DAY))
    rows.scores()
    for number, quiet in enumerate(rows.quiet_days(range(len(customers)))):
        turns = turns_by_the_day(rows[number], 2 * quiet if quiet else QUIET[-1])
        assert quiet in (*QUIET, 0)
        assert not turns or turns[0] > TODAY + quiet
        assert turns or quiet == SOON


@given(st.lists(rows(), min_size=2, max_size=4), models)
def test_a_customer_alone_and_in_a_batch_turns_on_the_same_day(customers, model):
    parameters, read = parameters_of(model, "time"), (0,) * len(DEFAULT_RULES.read)
    standings = [Standing(row, TODAY, parameters, DEFAULT_RULES, read, NO_DAY) for row in customers]
    until = [TODAY + 10_000] * len(standings)
    alone = [later([each], until[:1], ECONOMICS)[0] for each in standings]
    assert later(standings, until, ECONOMICS) == alone


def test_rules_without_time_never_turn():
    row = Row(2, 2, 2, 10, 20, 10, *[0] * 12)
    standing = Standing(row, TODAY, PARAMETERS, rules_of(("orders", 1.0)), (), NO_DAY)
    assert soon([standing], [TODAY + SOON], ECONOMICS) == [[]]
    assert later([standing], [TODAY + 10_000], ECONOMICS) == [TODAY + SOON + sum(FAR) + 1]
