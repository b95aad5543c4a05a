"""Tables for people."""

from streams.cli.tables import moved_table


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
