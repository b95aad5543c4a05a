"""Features: one entry each; rules, evidence and documents follow from it."""

import json
import math
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from models.aggregate.fold import fold
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.btyd import BgNbd, MbgNbd, ParetoNbd
from models.calendar import month_of
from models.context import Context
from models.contracts.outputs import SegmentChange
from models.economics import Economics
from models.engine import process
from models.features import FEATURES, NEVER, Feature, Measured, Silence, table_of_features
from models.features.seasons import season_of, season_share
from models.segments import DEFAULT_DIMENSIONS, Dimension, named_rules
from models.value import value_row, values

from .events import (
    KafkaRecord,
    acquired,
    at,
    body,
    milliseconds,
    opened,
    placed,
    rated,
    refunded,
    resolved,
    survey,
)
from .parameters import PARAMETERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "features.md"


def asking(*conditions) -> Dimension:
    rule = [{"feature": name, "is": word, "bound": bound} for name, word, bound in conditions]
    return Dimension.model_validate(
        {
            "name": "asking",
            "rules": [{"id": "yes", "segment": "yes", "any": rule}, {"id": "no", "segment": "no"}],
        }
    )


def never(name):
    """A condition that no customer of these tests meets."""
    if FEATURES[name].is_text:
        return name, "one of", ["nowhere"]
    return name, "at most", -1e15


def always(name):
    """A condition that everybody meets who has the feature."""
    return (name, "none of", ["nowhere"]) if FEATURES[name].is_text else (name, "below", 1e15)


def published(*dimensions, events=None, parameters=PARAMETERS):
    """The last value update and all segment changes of a customer with these events."""
    said = events or [
        ("order.placed", 0, {"order_id": "a", "total": "100.00", "cost_of_goods": "60.00"}),
        ("order.placed", 80, {"order_id": "b", "total": "50.00", "cost_of_goods": "20.00"}),
        ("order.refunded", 85, {"refund_id": "r", "order_id": "b", "amount": "10.00"}),
        ("ticket.opened", 99, {"ticket_id": "t", "channel": "phone", "complaint": True}),
    ]
    times = {
        "order.placed": "placed_at",
        "order.refunded": "refunded_at",
        "customer.acquired": "acquired_at",
    }
    records = []
    for offset, (kind, days, data) in enumerate(said):
        money = {} if kind.startswith("ticket") else {"currency": "USD"}
        content = {"customer_id": "c1", times.get(kind, "opened_at"): at(days), **money, **data}
        records.append(KafkaRecord(offset, milliseconds(days), b"c1", body(kind, content)))
    rules = named_rules((*DEFAULT_DIMENSIONS, *dimensions))
    context = Context(Economics(), parameters, rules)
    outputs = process({}, "t/0", records, context, now=milliseconds(1_000))
    assert not outputs.dead_letters
    changes = [json.loads(document)["data"] for _, document in outputs.segment_changes]
    return json.loads(outputs.updates[0].document)["data"], changes


def evidence(changes, dimension="asking"):
    return [each["reason"]["values"] for each in changes if each["dimension"] == dimension][-1]


def test_evidence_and_value_update_agree_about_every_feature():
    """Each feature that is published too has the same value in the evidence of a change."""
    # The last event changes the segment; all other conditions are looked at, and hold for nobody.
    turn = ("contacts", "at least", 1)
    update, changes = published(asking(turn, *map(never, FEATURES)))
    seen = evidence(changes)
    totals, statistics, expected = update["totals"], update["statistics"], update["expected"]
    agree = {
        "orders": totals["orders"],
        "purchase_days": totals["purchase_days"],
        "frequency": statistics["frequency"],
        "recency": statistics["recency"],
        "T": statistics["T"],
        "monetary_value": statistics["monetary_value"],
        "p_alive": update["p_alive"],
        "p_purchase": update["p_purchase"],
        "expected_purchases": expected["purchases"],
        "purchase_value": expected["purchase_value"],
        "margin_per_purchase": expected["margin_per_purchase"],
        "expected_contacts": expected["contacts"],
        "realised": update["realised"]["total"],
        "expected": expected["total"],
        "expected_low": expected["total_low"],
        "expected_high": expected["total_high"],
        "clv": update["clv"],
        "gross": totals["gross"],
        "refunds": totals["refunds"],
        "refunded": totals["refunded"],
        "contacts": totals["contacts"],
        "complaints": totals["complaints"],
        "cost_to_serve": update["realised"]["cost_to_serve"],
        "acquisition_cost": update["realised"]["acquisition_cost"],
        "days_since_last_order": 19,
        "days_since_first_order": 99,
        "tenure": 99,
        "mean_gap": 80,
        "gap_variation": None,
        "silent_gaps": 19 / 80,
        "purchase_months": 2,
        "purchase_years": 1,
        "season_months": 3,
        "season_ends": 3,
        "seasons": 1,
        "seasons_missed": 0,
        "season_share": 1.0,
        "expected_revenue": expected["purchases"] * expected["purchase_value"],
        "expected_margin": expected["purchases"] * expected["margin_per_purchase"],
        "expected_support_cost": expected["cost_to_serve"],
        "average_order": 75.0,
        "spent": 150.0,
        "margin": update["realised"]["margin"],
        "days_since_complaint": 0,
        "open_tickets": 1,
        "satisfaction": None,
        "ticket_rating": None,
        "acquisition_channel": None,
        "nps": None,
        "csat": None,
        "ces": None,
        **{
            f"{field}_{days}d": window[field]
            for days, window in update["windows"].items()
            for field in window
        },
    }
    assert {name for name in agree if agree[name] is None} == {
        name for name in seen if seen[name] is None
    }
    known = {name: value for name, value in agree.items() if value is not None}
    assert {name: seen[name] for name in known} == pytest.approx(known, rel=1e-12)
    assert seen.keys() == agree.keys() == FEATURES.keys()


def test_windows_are_features_like_any_other():
    """By hand: 50 - 10 in the last 30 days, and 150 - 10 in all."""
    _, changes = published(asking(("contacts_7d", "at least", 1), ("revenue_30d", "at least", 1e9)))
    assert evidence(changes) == {"contacts_7d": 1.0, "revenue_30d": 40.0}
    _, changes = published(asking(("revenue_365d", "above", 149), ("margin_30d", "above", 45)))
    asked = [each["current"] for each in changes if each["dimension"] == "asking"]
    assert asked == ["no", "yes", "no"]


def test_what_is_missing_is_said_and_holds_nowhere():
    prospect = [("ticket.opened", 0, {"ticket_id": "t", "channel": "phone"})]
    missing = {name for name, each in FEATURES.items() if each.missing != NEVER}
    _, changes = published(asking(*map(always, missing)), events=prospect, parameters=None)
    assert [each["current"] for each in changes if each["dimension"] == "asking"] == ["no"]
    assert evidence(changes) == dict.fromkeys(missing)
    others = FEATURES.keys() - missing
    _, changes = published(asking(*map(never, others)), events=prospect, parameters=None)
    assert all(value is not None for value in evidence(changes).values())


def test_evidence_reads_back_from_the_outbox_as_it_was_published():
    """What is stored and told again after a crash must be the same bytes: counts are floats too."""
    _, changes = published(asking(("refunds", "at least", 1), ("orders_365d", "at least", 9)))
    for value in evidence(changes).values():
        assert isinstance(value, float)


def test_each_feature_has_one_source_and_says_what_it_is():
    for name, feature in FEATURES.items():
        assert name == feature.name
        assert (feature.of is None) != (feature.read is None)
        assert feature.meaning
        assert feature.unit
        assert not feature.meaning.endswith(".")


def test_an_unknown_feature_is_refused_with_those_there_are():
    with pytest.raises(ValidationError, match=r"unknown feature 'order'; did you mean 'orders'\?"):
        asking(("order", "at least", 1))


def test_the_document_lists_the_features():
    assert table_of_features() in DOCUMENT.read_text()


def test_a_new_feature_is_one_entry(monkeypatch):
    """A rule asks for it, the evidence shows it, and the table of the documents has it."""
    toy = Feature(
        "mean_refund",
        "money",
        "mean of the refunds so far",
        read=lambda of: (
            of.summary.refunded / 10_000 / of.summary.refunds if of.summary.refunds else math.nan
        ),
        missing="without a refund",
    )
    monkeypatch.setitem(FEATURES, "mean_refund", toy)
    _, changes = published(asking(("mean_refund", "at least", 10)))
    asked = [each for each in changes if each["dimension"] == "asking"]
    assert [each["current"] for each in asked] == ["no", "yes"]
    assert asked[0]["reason"]["values"] == {"mean_refund": None}
    assert asked[1]["reason"]["values"] == {"mean_refund": 10.0}
    assert "| `mean_refund` | money | mean of the refunds so far | without a refund | stays |" in (
        table_of_features()
    )


def folded(events):
    state = Aggregate()
    for event in events:
        fold(state, event, Economics())
    return state


def won(customer, days, channel=None):
    return acquired(customer, days, **({} if channel is None else {"channel": channel}))


def measured(events, today_days):
    """The features that are read from a state, as of so many days after the start."""
    state, config = folded(events), Economics()
    day = config.day(milliseconds(today_days))
    return Measured(state, Summary(state, config), day, config)


def read(name, of):
    return FEATURES[name].read(of)


def test_scores_are_shares_of_their_scale_and_the_last_one_counts_as_satisfaction():
    of = measured(
        [
            opened("t", 1), rated("t", 2, 2), opened("u", 3), resolved("u", 4), rated("u", 5, 4),
            survey("nps", 4, 9, {"min": 0, "max": 10}),
        ],
        9,
    )  # fmt: skip
    # (2 - 1) / 4 and (4 - 1) / 4 of the scale from 1 to 5.
    assert read("ticket_rating", of) == pytest.approx((0.25 + 0.75) / 2)
    assert (read("satisfaction", of), read("nps", of)) == (0.75, 0.9)
    assert math.isnan(read("csat", of))
    assert read("open_tickets", of) == 1


def test_days_since_a_complaint_and_tenure_are_calendar_days():
    of = measured([opened("t", 0), placed("a", 5), opened("u", 7, complaint=True)], 20)
    assert (read("tenure", of), read("days_since_first_order", of)) == (20, 15)
    assert read("days_since_complaint", of) == 13


def test_the_channel_is_that_of_the_first_acquisition_that_says_one():
    of = measured([won("a", 3), won("b", 5, "search"), won("c", 9, "letter")], 20)
    assert read("acquisition_channel", of) == "search"
    # 40 bytes are kept; a letter is not cut in half.
    assert read("acquisition_channel", measured([won("a", 3, "é" * 30)], 20)) == "é" * 20
    assert (
        read("acquisition_channel", measured([won("a", 3, "x" + "é" * 30)], 20)) == "x" + "é" * 19
    )
    assert read("acquisition_channel", measured([placed("a", 0)], 20)) == ""


def test_a_rule_compares_a_text_with_those_it_lists():
    events = [
        ("customer.acquired", 0, {"cost": "5", "channel": "search"}),
        ("order.placed", 1, {"order_id": "a", "total": "10"}),
    ]
    _, changes = published(
        asking(("acquisition_channel", "one of", ["letter", "search"])), events=events
    )
    [change] = [each for each in changes if each["dimension"] == "asking"]
    assert change["current"] == "yes"
    reason = change["reason"]
    assert reason["values"] == {"acquisition_channel": "search"}
    assert reason["conditions"] == [
        {"feature": "acquisition_channel", "value": "search", "is": "one of",
         "bound": ["letter", "search"]}
    ]  # fmt: skip
    assert reason["text"] == (
        "Yes, because the channel of acquisition is search, one of letter, search."
    )
    SegmentChange.model_validate(change)
    for kind, bound, current in (
        ("one of", ["letter"], "no"), ("none of", ["letter"], "yes"), ("none of", ["search"], "no"),
    ):  # fmt: skip
        _, changes = published(asking(("acquisition_channel", kind, bound)), events=events)
        assert [each["current"] for each in changes if each["dimension"] == "asking"] == [current]
    # What is not known is neither one of them nor none of them.
    _, changes = published(
        asking(("acquisition_channel", "none of", ["letter"])), events=events[1:]
    )
    assert [each["current"] for each in changes if each["dimension"] == "asking"] == ["no"]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (("acquisition_channel", "at least", 3), "is a text: compare it with one of or none of"),
        (("acquisition_channel", "one of", "search"), "is a text: compare it with one of or none"),
        (("acquisition_channel", "one of", ["é" * 21]), "it has 1 to 40 bytes"),
        (("acquisition_channel", "one of", []), "bound"),
        (("orders", "one of", ["3"]), "orders is a number, and 'one of' compares texts"),
        (("orders", "at least", ["3"]), "orders is a number: its bound is no list"),
    ],
)
def test_a_text_compared_as_a_number_is_refused_and_the_other_way_round(condition, words):
    with pytest.raises(ValidationError, match=words):
        asking(condition)


def test_gaps_of_a_regular_buyer_do_not_vary():
    assert read("gap_variation", measured([placed(f"o{n}", 7 * n) for n in range(9)], 60)) == 0
    # Gaps of 10 and 30 days: mean 20, standard deviation 10.
    uneven = [placed("a", 0), placed("b", 10), placed("c", 40)]
    assert read("gap_variation", measured(uneven, 60)) == 0.5
    assert math.isnan(read("gap_variation", measured(uneven[:2], 60)))


@pytest.mark.parametrize(
    ("bought", "today", "expected"),
    [
        (["2010-12-09"], "2011-11-30", (1, 12, 1, 0, 1.0)),
        # The December of 2011 is missed when it is over, not before.
        (["2010-12-09"], "2011-12-31", (1, 12, 1, 0, 1.0)),
        (["2010-12-09"], "2012-01-01", (1, 12, 1, 1, 1.0)),
        (["2010-12-09", "2011-11-20", "2011-12-01"], "2011-12-09", (2, 12, 2, 0, 1.0)),
        # Two purchases of one winter are one season.
        (["2010-12-28", "2011-01-03"], "2011-02-01", (2, 1, 1, 0, 1.0)),
        (["2008-11-30", "2010-12-24"], "2011-06-01", (2, 12, 2, 1, 1.0)),
        (["2010-06-01", "2011-07-31", "2012-06-15"], "2012-06-15", (2, 7, 3, 0, 1.0)),
        (["2010-01-01", "2010-05-01", "2010-06-01", "2010-09-01"], "2010-09-01", (9, 9, 1, 0, 0.5)),
    ],
)
def test_the_season_is_the_shortest_run_of_months_with_all_purchases(bought, today, expected):
    months = Counter(month_of(date.fromisoformat(day).toordinal()) for day in bought)
    of = season_of(months, date.fromisoformat(today).toordinal())
    assert (*of, season_share(months)) == expected


@given(st.lists(st.integers(0, 2_500), min_size=1, max_size=8), st.integers(0, 900))
@settings(deadline=None)
def test_a_season_is_what_looking_at_each_of_its_years_gives(days, later):
    """By the definition: no shorter run has all purchases; count its years one by one."""
    start = date(2004, 1, 1).toordinal()
    bought = sorted(start + day for day in days)
    today = bought[-1] + later
    of = season_of(Counter(map(month_of, bought)), today)

    def inside(day, first, length):
        return (date.fromordinal(day).month - first) % 12 < length

    first = (of.ends - of.months) % 12 + 1
    assert all(inside(day, first, of.months) for day in bought)
    assert not any(
        all(inside(day, other, of.months - 1) for day in bought) for other in range(1, 13)
    )
    begun = range(2000, 2020)
    runs = []
    for year in begun:
        after = year * 12 + first - 1 + of.months
        runs.append((date(year, first, 1), date(after // 12, after % 12 + 1, 1)))
    had = [any(a.toordinal() <= day < b.toordinal() for day in bought) for a, b in runs]
    assert of.seasons == sum(had)
    over = [b.toordinal() <= today for _, b in runs]
    since = had.index(True)
    assert of.missed == sum(
        ended and not bought_in for bought_in, ended in list(zip(had, over, strict=True))[since:]
    )


MODELS = {
    "bg-nbd": BgNbd(r=0.2425945, alpha=4.4136019, a=0.7929199, b=2.4258881),
    "mbg-nbd": MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614),
    "pareto-nbd": ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669),
}
HISTORIES = {
    "none": [opened("t", 0)],
    "once": [placed("a", 0)],
    "often": [placed(f"o{n}", 3 * n, "9.00") for n in range(40)],
    "yearly": [placed("a", 0), placed("b", 360), placed("c", 700)],
    "costly": [placed("a", 3), *[opened(f"t{n}", n, "phone", True) for n in range(30)]],
    "refunded": [placed("a", 0, "90"), placed("b", 50, "10"), refunded("r", 70, "99")],
}


@pytest.mark.parametrize("per", ["purchase", "time"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("history", HISTORIES)
def test_each_feature_moves_the_way_it_says_under_every_model(history, model, per):
    """Those that fall never rise, those that rise never fall, and only events move the others."""
    parameters = PARAMETERS.model_copy(
        update={"model": model, "purchases": MODELS[model], "contacts_per": per}
    )
    economics, state = Economics(), folded(HISTORIES[history])
    summary = Summary(state, economics)
    last = max(event.data.occurred_at for event in HISTORIES[history])
    begins = round(last.timestamp() * 1000)
    moments = [begins + day * 86_400_000 for day in (0, 1, 3, 9, 29, 31, 80, 200, 364, 400, 1500)]
    columns = {}
    measured = [Measured(state, summary, economics.day(each), economics) for each in moments]
    rows = [value_row(summary, each.today, economics) for each in measured]
    valued = values(rows, parameters, economics)
    for name, feature in FEATURES.items():
        if feature.of is not None:
            columns[name] = feature.of(valued)
        else:
            columns[name] = np.array([feature.read(each) for each in measured], feature.dtype)
            if feature.is_text:
                assert len(set(columns.pop(name))) == 1, name
    for name, column in columns.items():
        feature, change = FEATURES[name], np.diff(column)
        assert len(set(np.isnan(column))) == 1, name
        slack = 1e-9 * (1 + np.nanmax(np.abs(column), initial=0.0))
        if feature.silence is Silence.STAYS:
            assert not (np.abs(change) > slack).any(), name
        assert not (feature.way * change < -slack).any(), name
