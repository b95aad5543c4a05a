"""Rules as tables: what they decide for a batch is what each row decides when read one by one."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.features import FEATURES, Silence
from models.segments import DEFAULT_RULES, Condition, Dimension, Quantile, Rule, Rules, decisions
from models.segments.conditions import OPERATORS
from models.segments.steady import surely_steady

NUMBERS = ("clv", "days_since_last_order", "orders", "season_ends")
CHANNEL = "acquisition_channel"
NAMES = (*NUMBERS, CHANNEL)
QUANTILES = tuple(Quantile("clv", name) for name in ("p50", "p90"))

few = st.sampled_from([-1.0, -0.0, 0.0, 1.0, 2.0])
perhaps = st.one_of(few, st.just(math.nan))
limits = st.one_of(few, st.sampled_from(["p50", "p90"]))
of_numbers = st.builds(
    lambda feature, is_, bound, leave: Condition.model_construct(
        feature=feature, is_=is_, bound=bound, leave=leave
    ),
    st.just("clv"),
    st.sampled_from(["at least", "at most", "below", "above"]),
    limits,
    st.one_of(st.none(), limits),
) | st.builds(
    lambda feature, is_, bound: Condition.model_construct(feature=feature, is_=is_, bound=bound),
    st.sampled_from(NUMBERS),
    st.sampled_from(["at least", "at most", "below", "above"]),
    few,
)
of_texts = st.builds(
    lambda is_, bound: Condition.model_construct(feature=CHANNEL, is_=is_, bound=bound),
    st.sampled_from(["one of", "none of"]),
    st.sampled_from([("a",), ("a", "b")]),
)
several = st.lists(st.one_of(of_numbers, of_texts), max_size=3).map(tuple)


@st.composite
def dimensions(draw, name):
    """Also rules that nobody reaches, which a shop could not publish."""
    rules = [
        Rule.model_construct(
            id=f"r{place}",
            segment=draw(st.sampled_from("abc")),
            all=draw(several),
            any=draw(several),
            stay_days=draw(st.integers(0, 1)),
        )
        for place in range(draw(st.integers(0, 4)))
    ]
    last = Rule(id="rest", segment=draw(st.sampled_from("abc")))
    return Dimension.model_construct(name=name, rules=(*rules, last))


@st.composite
def rules(draw):
    names = range(draw(st.integers(0, 3)))
    each = tuple(draw(dimensions(f"d{name}")) for name in names)
    return Rules.model_construct(version="v", dimensions=each)


@st.composite
def batches(draw):
    """Rows of features, and the quantiles of each row, or of all."""
    row = st.fixed_dictionaries(
        {**dict.fromkeys(NUMBERS, perhaps), CHANNEL: st.sampled_from(["", "a", "b", "c"])}
    )
    rows = draw(st.lists(row, min_size=1, max_size=4))
    count = draw(st.sampled_from([1, len(rows)]))
    exactly = st.lists(perhaps, min_size=count, max_size=count)
    return rows, {each: draw(exactly) for each in QUANTILES}


def columns_of(rows):
    return {name: np.array([row[name] for row in rows]) for name in NAMES}


def of_row(quantiles, row):
    return {each: of[row if len(of) > 1 else 0] for each, of in quantiles.items()}


def holds(rule, met, *, leaving):
    """Whether all and any of the conditions are met, by feature, comparison and bound."""
    each = [met(one.feature, one.is_, one.limit(leaving=leaving)) for one in rule.all]
    either = [met(one.feature, one.is_, one.limit(leaving=leaving)) for one in rule.any]
    return all(each) and (any(either) or not either)


def meeting(values, quantiles):
    def met(feature, is_, limit):
        bound = quantiles[Quantile(feature, limit)] if isinstance(limit, str) else limit
        return bool(OPERATORS[is_](values[feature], bound))

    return met


def first_of(dimension, met):
    return next(
        place for place, rule in enumerate(dimension.rules) if holds(rule, met, leaving=False)
    )


def kept_of(dimension, met, segment):
    """The first rule with bounds to leave a segment that holds with them, or the last rule."""
    last = len(dimension.rules) - 1
    return next(
        (
            place
            for place, rule in enumerate(dimension.rules)
            if rule.segment == segment and rule.leaves and holds(rule, met, leaving=True)
        ),
        last,
    )


@given(rules(), batches())
def test_a_batch_is_decided_as_each_row_read_one_by_one(rules, batch):
    rows, quantiles = batch
    held = rules.tables.held(columns_of(rows), quantiles, len(rows))
    decided = decisions(rules, held)
    assert [each.dimension for each in decided] == list(rules.dimensions)
    for each in decided:
        leaves = {rule.segment for rule in each.dimension.rules if rule.leaves}
        assert each.kept.keys() == leaves
        for number, values in enumerate(rows):
            met = meeting(values, of_row(quantiles, number))
            assert each.first[number] == first_of(each.dimension, met)
            assert each.suggested[number] == each.segments[each.first[number]]
            for segment in leaves:
                assert each.kept[segment][number] == kept_of(each.dimension, met, segment)


class Between:
    """Features that move by up to so much, as far as they may move at all."""

    def __init__(self, columns, rows, less, more):
        self._columns, self._rows, self._less, self._more = columns, rows, less, more

    def bounds(self, feature):
        now = self._columns[feature.name][self._rows]
        if feature.silence is Silence.STAYS:
            return now, now
        if feature.silence is Silence.STEPS:
            return -np.inf, np.inf
        return now - self._less, now + self._more


def keeps(dimension, now, extremes):
    """Whether the segments that a customer can be in stay, read rule by rule."""
    rules = dimension.rules
    first = first_of(dimension, now)
    for segment in {rule.segment for rule in rules}:
        mine = rules[first].segment == segment
        mine |= kept_of(dimension, now, segment) < first
        mine |= any(rule.stay_days and rule.segment == segment for rule in rules[:first])
        if not mine:
            continue
        for rule in rules:
            surely, possibly = extremes
            if rule.segment == segment:
                if holds(rule, surely, leaving=False) or (
                    rule.leaves and holds(rule, surely, leaving=True)
                ):
                    break
            elif holds(rule, possibly, leaving=False):
                return False
    return True


def extreme(low, high, quantiles, *, surely):
    """Meets conditions with the bound that is harder, or easier, to meet."""
    by_low, by_high = meeting(low, quantiles), meeting(high, quantiles)

    def met(feature, is_, limit):
        rising = is_ in ("at least", "above")
        return (by_low if rising == surely else by_high)(feature, is_, limit)

    return met


@given(rules(), batches(), st.lists(st.integers(0, 3), max_size=6), few.map(abs), few.map(abs))
def test_who_keeps_their_segments_surely_is_as_read_rule_by_rule(rules, batch, picked, less, more):
    of, quantiles = batch
    columns = columns_of(of)
    rows = np.array([each % len(of) for each in picked], np.intp)
    reach = Between(columns, rows, less, more)
    held = rules.tables.held(columns, quantiles, len(of))
    steady = surely_steady(rules.tables, held, rows, reach)
    assert steady.shape == rows.shape
    for place, row in enumerate(rows.tolist()):
        mine, bounds = (
            of_row(quantiles, row),
            {name: reach.bounds(FEATURES[name]) for name in NAMES},
        )
        low, high = (
            {name: np.broadcast_to(each[side], rows.shape)[place] for name, each in bounds.items()}
            for side in (0, 1)
        )
        extremes = [extreme(low, high, mine, surely=surely) for surely in (True, False)]
        now = meeting(of[row], mine)
        expected = all(keeps(each, now, extremes) for each in rules.dimensions)
        assert steady[place] == expected


def test_equal_comparisons_are_made_once():
    compared = [
        (each.feature, each.is_, bound)
        for dimension in DEFAULT_RULES.dimensions
        for rule in dimension.rules
        for each in rule.conditions
        for bound in {each.bound, each.limit(leaving=True)}
    ]
    places = DEFAULT_RULES.tables.comparisons.places
    assert set(places) == set(compared)
    assert len(places) < len(compared)
