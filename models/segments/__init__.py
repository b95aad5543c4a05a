"""Segments: ordered rules per dimension; the first rule that holds wins.

A dimension gives every customer exactly one segment. Rules use only the features in `FEATURES` and
what the customer was before, so the same history, parameters and rules always give the same.
"""

from models.segments.conditions import Condition, Quantile
from models.segments.deciding import Decisions
from models.segments.defaults import DEFAULT_DIMENSIONS, DEFAULT_RULES
from models.segments.reasons import explain
from models.segments.rules import Dimension, Rule, Rules, named_rules

__all__ = [
    "DEFAULT_DIMENSIONS",
    "DEFAULT_RULES",
    "Condition",
    "Decisions",
    "Dimension",
    "Quantile",
    "Rule",
    "Rules",
    "explain",
    "named_rules",
]
