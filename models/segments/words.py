"""Rules in words, for documents and people: what each asks for, with its bounds."""

from __future__ import annotations

from models.features import FEATURES
from models.quantiles import percent_of
from models.segments.conditions import Bound, Condition
from models.segments.rules import Dimension, Rule


def table_of_rules(dimension: Dimension) -> str:
    """Return the rules of a dimension as a Markdown table, in the order in which they are tried."""
    rows = [f"| `{rule.id}` | {rule.segment} | {in_words(rule)} |" for rule in dimension.rules]
    return "\n".join(("| rule | segment | a customer for whom |", "|---|---|---|", *rows)) + "\n"


def in_words(rule: Rule) -> str:
    """Return what a rule asks for."""
    parts = [_condition(each) for each in rule.all]
    if rule.any:
        parts.append(f"either {', or '.join(_condition(each) for each in rule.any)}")
    words = "; and ".join(parts) or "no rule above holds"
    if rule.stay_days:
        words += f"; and who has entered stays for {rule.stay_days} days"
    return words


def _condition(condition: Condition) -> str:
    words = f"{FEATURES[condition.feature].said} is {condition.is_} {_bound(condition.bound)}"
    if condition.leave is not None:
        words += f" (to stay: {_bound(condition.leave)})"
    return words


def _bound(bound: Bound) -> str:
    if isinstance(bound, tuple):
        return ", ".join(bound)
    if not isinstance(bound, str):
        return f"{bound:g}"
    percent = percent_of(bound)
    return f"the {percent}{'st' if percent == 1 else 'th'} percentile of all customers"
