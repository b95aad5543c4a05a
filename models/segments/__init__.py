"""Segments: ordered rules per dimension; the first rule that holds wins.

A dimension gives every customer exactly one segment. Rules use only the features in `FEATURES` and
what the customer was before, so the same history, parameters and rules always give the same.
"""

from models.segments.conditions import Condition, Quantile
from models.segments.deciding import Decisions, decisions
from models.segments.defaults import DEFAULT_DIMENSIONS, DEFAULT_RULES
from models.segments.presets import PRESETS
from models.segments.reasons import explain
from models.segments.rules import (
    BUILT_IN,
    NO_RULES,
    Dimension,
    Rule,
    RuleError,
    Rules,
    check_together,
    named_rules,
)

__all__ = [
    "BUILT_IN",
    "DEFAULT_DIMENSIONS",
    "DEFAULT_RULES",
    "NO_RULES",
    "PRESETS",
    "Condition",
    "Decisions",
    "Dimension",
    "Quantile",
    "Rule",
    "RuleError",
    "Rules",
    "check_together",
    "decisions",
    "explain",
    "named_rules",
]
