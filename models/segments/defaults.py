"""The rules that hold until a shop publishes its own. docs/segments.md shows how right they are."""

from __future__ import annotations

from typing import Final

from models.segments.conditions import is_
from models.segments.rules import BUILT_IN, Dimension, Rule, named_rules

LIFECYCLE: Final = Dimension(
    name="lifecycle",
    rules=(
        Rule(id="prospect", segment="prospect", all=(is_("orders", "below", 1),)),
        Rule(
            id="new",
            segment="new",
            all=(is_("purchase_days", "at most", 1), is_("days_since_last_order", "at most", 90)),
        ),
        Rule(
            id="lost",
            segment="lost",
            all=(
                is_("p_purchase", "below", 0.15, leave=0.25),
                is_("p_alive", "below", 0.99),
                is_("days_since_last_order", "above", 120),
            ),
            any=(is_("purchase_days", "at most", 2), is_("days_since_last_order", "above", 240)),
        ),
        Rule(
            id="active",
            segment="active",
            all=(is_("p_purchase", "at least", 0.7, leave=0.5),),
            any=(
                is_("days_since_last_order", "at most", 75),
                is_("silent_gaps", "at most", 15),
                is_("purchase_days", "at most", 1),
            ),
        ),
        Rule(
            id="regular",
            segment="active",
            all=(
                is_("purchase_days", "at least", 4),
                is_("days_since_last_order", "at most", 35, leave=60),
            ),
        ),
        Rule(
            id="needs-attention",
            segment="needs attention",
            all=(is_("p_purchase", "at least", 0.3, leave=0.25),),
        ),
        Rule(
            id="pausing",
            segment="needs attention",
            all=(
                is_("purchase_days", "at least", 4),
                is_("days_since_last_order", "at most", 90),
            ),
        ),
        Rule(id="at-risk", segment="at risk"),
    ),
)
"""By the probability of a purchase within a year. Who is *active* comes back, of ten at least 7.
Who *needs attention* may go either way. Who is *lost* does not come back: of four at most one.

Those who used to buy often pause and come back more often than a model says in which a customer
is either alive or not. So a customer of four purchase days and more is active for 35 days, stays so
for 60, and needs attention until 90, whatever the model says; one of three and more is not lost
within 240. And the other way round, nobody is active who has been silent for 75 days and for
fifteen of their own gaps."""

_BOUGHT_LATELY: Final = is_("days_since_last_order", "below", 0, leave=61)
"""Holds only for who is in the segment, until 60 days after an order."""

TIER: Final = Dimension(
    name="tier",
    rules=(
        Rule(
            id="gold",
            segment="gold",
            any=(is_("expected", "at least", "p90", leave="p75"), _BOUGHT_LATELY),
        ),
        Rule(
            id="silver",
            segment="silver",
            any=(is_("expected", "at least", "p60", leave="p40"), _BOUGHT_LATELY),
        ),
        Rule(id="bronze", segment="bronze"),
    ),
)
"""By what the next year is expected to bring: the tenth worth most, and the next three tenths.
Customers stay for 60 days after an order: of one who buys each week, three weeks of silence are a
reason to expect nothing any more, and the next order one to expect everything."""

BEST_EVER: Final = Dimension(
    name="best-ever",
    rules=(
        Rule(id="best", segment="best", all=(is_("realised", "at least", "p90", leave="p80"),)),
        Rule(id="good", segment="good", all=(is_("realised", "at least", "p60", leave="p50"),)),
        Rule(id="others", segment="others"),
    ),
)
"""By what a customer has brought so far, whether or not they come back: a customer who is one of
the best and lost is worth winning back."""

BEHAVIOUR: Final = Dimension(
    name="behaviour",
    rules=(
        Rule(id="none", segment="none", all=(is_("orders", "below", 1),)),
        Rule(id="one-time", segment="one-time", all=(is_("purchase_days", "at most", 1),)),
        Rule(
            id="gift-giver",
            segment="seasonal",
            all=(
                is_("season_months", "at most", 2),
                is_("season_ends", "at least", 12),
                is_("seasons", "at least", 2),
                is_("seasons_missed", "at most", 0),
            ),
        ),
        Rule(
            id="yearly",
            segment="seasonal",
            all=(
                is_("season_months", "at most", 2),
                is_("seasons", "at least", 3),
                is_("seasons_missed", "at most", 0),
            ),
        ),
        Rule(id="collector", segment="collector", all=(is_("purchase_months", "at least", 6),)),
        Rule(id="regular", segment="regular"),
    ),
)
"""By the months and years in which a customer bought. Two purchases a year apart happen by chance;
two years suffice before Christmas, when many buy gifts, and elsewhere it takes three."""

DEFAULT_DIMENSIONS: Final = (LIFECYCLE, TIER, BEST_EVER, BEHAVIOUR)

DEFAULT_RULES: Final = named_rules(DEFAULT_DIMENSIONS, "default")
"""They and their version; another version of this program may have others."""

BUILT_IN.update({each.name: each for each in DEFAULT_DIMENSIONS})
