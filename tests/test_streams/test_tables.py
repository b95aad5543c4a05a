"""Tables for people."""

from models.segments import DEFAULT_DIMENSIONS
from streams.cli.tables import moved_table, segment_names


def test_what_has_moved_a_value_is_said_in_words_without_what_has_not():
    moved = {
        "from": 1200.0,
        "to": 1250.5,
        "event": 70.25,
        "time": -19.75,
        "model": 0.0,
        "rules_or_rates": 0.0,
        "merge": 0.0,
    }
    names, amounts = (list(column.cells) for column in moved_table(moved).columns)
    assert dict(zip(names, amounts, strict=True)) == {
        "The update before": "1,200.00",
        "  events: orders, returns, contacts": "+70.25",
        "  time without an event": "-19.75",
        "This one": "1,250.50",
    }


def test_a_segment_that_several_rules_lead_to_is_named_once():
    lifecycle = next(each for each in DEFAULT_DIMENSIONS if each.name == "lifecycle")
    rules = [rule.segment for rule in lifecycle.rules]
    assert len(set(rules)) < len(rules)
    found = {*rules, "of an earlier rule"}
    assert sorted(segment_names("lifecycle", found)) == sorted(found)
