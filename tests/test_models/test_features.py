"""Features: one entry each; rules, evidence and documents follow from it."""

import json
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.context import Context
from models.economics import Economics
from models.engine import process
from models.features import FEATURES, NEVER, Feature, table_of_features
from models.segments import DEFAULT_DIMENSIONS, Dimension

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "features.md"


def asking(*conditions) -> Dimension:
    rule = [{"feature": name, "is": word, "bound": bound} for name, word, bound in conditions]
    return Dimension.model_validate(
        {"name": "asking", "rules": [{"segment": "yes", "any_of": rule}, {"segment": "no"}]}
    )


def published(*dimensions, events=None, parameters=PARAMETERS):
    """The last value update and all segment changes of a customer with these events."""
    said = events or [
        ("order.placed", 0, {"order_id": "a", "total": "100.00", "cost_of_goods": "60.00"}),
        ("order.placed", 80, {"order_id": "b", "total": "50.00", "cost_of_goods": "20.00"}),
        ("order.refunded", 85, {"refund_id": "r", "order_id": "b", "amount": "10.00"}),
        ("ticket.opened", 99, {"ticket_id": "t", "channel": "phone", "complaint": True}),
    ]
    times = {"order.placed": "placed_at", "order.refunded": "refunded_at"}
    records = []
    for offset, (kind, days, data) in enumerate(said):
        money = {} if kind.startswith("ticket") else {"currency": "USD"}
        content = {"customer_id": "c1", times.get(kind, "opened_at"): at(days), **money, **data}
        records.append(KafkaRecord(offset, milliseconds(days), b"c1", body(kind, content)))
    context = Context(Economics(), parameters, (*DEFAULT_DIMENSIONS, *dimensions))
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
    update, changes = published(asking(turn, *((name, "at most", -1e15) for name in FEATURES)))
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
        "mean_gap": 80,
        **{
            f"{field}_{days}d": window[field]
            for days, window in update["windows"].items()
            for field in window
        },
    }
    assert seen == pytest.approx(agree, rel=1e-12)
    assert seen.keys() == FEATURES.keys()


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
    _, changes = published(
        asking(*((name, "below", 1e15) for name in missing)), events=prospect, parameters=None
    )
    assert [each["current"] for each in changes if each["dimension"] == "asking"] == ["no"]
    assert evidence(changes) == dict.fromkeys(missing)
    others = FEATURES.keys() - missing
    _, changes = published(
        asking(*((name, "at most", -1e15) for name in others)), events=prospect, parameters=None
    )
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
    with pytest.raises(ValidationError, match="unknown feature 'order'; a rule may ask for"):
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
    assert "| `mean_refund` | money | mean of the refunds so far | without a refund |" in (
        table_of_features()
    )
