"""The rules that hold until a shop publishes its own."""

from __future__ import annotations

from typing import Final

from models.segments.conditions import Bound, Comparison, Condition
from models.segments.rules import Dimension, Rule, named_rules


def _is(feature: str, comparison: Comparison, bound: Bound) -> Condition:
    return Condition.model_validate({"feature": feature, "is": comparison, "bound": bound})


DEFAULT_DIMENSIONS: Final = (
    Dimension(
        name="lifecycle",
        rules=(
            Rule(id="prospect", segment="prospect", all=(_is("orders", "below", 1),)),
            Rule(
                id="new",
                segment="new",
                all=(
                    _is("purchase_days", "at most", 1),
                    _is("days_since_last_order", "at most", 90),
                ),
            ),
            Rule(id="active", segment="active", all=(_is("p_purchase", "at least", 0.5),)),
            Rule(
                id="needs-attention",
                segment="needs attention",
                all=(_is("p_purchase", "at least", 0.25),),
            ),
            Rule(
                id="at-risk",
                segment="at risk",
                any=(
                    _is("p_purchase", "at least", 0.1),
                    _is("days_since_last_order", "at most", 90),
                ),
            ),
            Rule(id="lost", segment="lost"),
        ),
    ),
    Dimension(
        name="tier",
        rules=(
            Rule(id="gold", segment="gold", all=(_is("clv", "at least", "gold"),)),
            Rule(id="silver", segment="silver", all=(_is("clv", "at least", "silver"),)),
            Rule(id="bronze", segment="bronze"),
        ),
    ),
    Dimension(
        name="behaviour",
        rules=(
            Rule(id="none", segment="none", all=(_is("orders", "below", 1),)),
            Rule(id="one-time", segment="one-time", all=(_is("purchase_days", "at most", 1),)),
            Rule(
                id="seasonal",
                segment="seasonal",
                all=(_is("mean_gap", "at least", 300), _is("mean_gap", "at most", 430)),
            ),
            Rule(id="collector", segment="collector", all=(_is("purchase_days", "at least", 10),)),
            Rule(id="regular", segment="regular"),
        ),
    ),
)
"""Lifecycle, tier and behaviour. Lifecycle is the probability of a purchase within a year: of the
customers of CDNOW with .5 and more 76 % bought again, of those with .25 52 %, with .1 24 %.
Nobody is lost within three months: those few whom the model gives up so soon, because they used to
buy often, mostly come back. Tiers are quantiles published with the model."""

DEFAULT_RULES: Final = named_rules(DEFAULT_DIMENSIONS, "default")
"""They and their version; another version of this program may have others."""
