"""Rules that other products made known, to be used beside the default ones.

Both score recency, frequency and money (RFM) by where a customer stands among the others. The
products say which scores there are and describe their groups; each preset says what of it is ours.
Customers with equal numbers get equal scores, the lower ones: of a shop where six in ten have
ordered once, those have the score 1 of frequency. The scores come with the model: until there is
one, everybody is in the last group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from models.segments.conditions import Condition, is_
from models.segments.rules import BUILT_IN, Dimension, Rule

_PROSPECTS: Final = Rule(id="prospects", segment="prospects", all=(is_("orders", "below", 1),))

_FIFTHS: Final = {2: 20, 3: 40, 4: 60, 5: 80}
"""The percentile above which each score lies."""

_THIRDS: Final = {2: 35, 3: 65}


def _scored(
    ends: Mapping[int, int], recency: int = 1, frequency: int = 1, money: int = 1
) -> tuple[Condition, ...]:
    """Return that each score is at least so much."""
    conditions = []
    if recency > 1:
        # The fewer days since the last order, the higher the score.
        ago = f"p{100 - ends[recency]}"
        conditions.append(is_("days_since_last_order", "at most", ago))
    if frequency > 1:
        conditions.append(is_("orders", "above", f"p{ends[frequency]}"))
    if money > 1:
        conditions.append(is_("spent", "above", f"p{ends[money]}"))
    return tuple(conditions)


def _group(segment: str, recency: int, together: int = 2) -> Iterator[Rule]:
    """Yield the rules of a Shopify group: one for each way to come to a sum of two scores.

    recency: its least score. together: the least sum of frequency and money, each 1 to 5.
    """
    name = segment.replace(" ", "-")
    for frequency in range(min(together - 1, 5), max(together - 5, 1) - 1, -1):
        money = together - frequency
        yield Rule(
            id=f"{name}-{recency}{frequency}{money}",
            segment=segment,
            all=_scored(_FIFTHS, recency, frequency, money),
        )


RFM_SHOPIFY: Final = Dimension(
    name="rfm-shopify",
    rules=(
        _PROSPECTS,
        *_group("champions", 5, 8),
        *_group("active", 5, 5),
        *_group("new", 5),
        *_group("loyal", 3, 8),
        *_group("active", 4, 5),
        *_group("promising", 4),
        *_group("needs attention", 3, 5),
        *_group("previously loyal", 1, 9),
        *_group("at risk", 1, 5),
        *_group("almost lost", 2),
        *_group("dormant", 1),
    ),
)
"""Shopify's 11 groups. Its own: the names and what they describe, scores of 1 to 5 by fifths of the
customers, and groups by recency and the mean of frequency and money. Ours: at which scores one
group ends and the next begins."""

RFM_KLAVIYO: Final = Dimension(
    name="rfm-klaviyo",
    rules=(
        _PROSPECTS,
        Rule(id="champions-332", segment="champions", all=_scored(_THIRDS, 3, 3, 2)),
        Rule(id="champions-323", segment="champions", all=_scored(_THIRDS, 3, 2, 3)),
        Rule(id="loyal-321", segment="loyal", all=_scored(_THIRDS, 3, 2)),
        Rule(id="loyal-232", segment="loyal", all=_scored(_THIRDS, 2, 3, 2)),
        Rule(id="recent", segment="recent", all=_scored(_THIRDS, 3)),
        Rule(id="needs-attention", segment="needs attention", all=_scored(_THIRDS, 2)),
        Rule(id="at-risk-131", segment="at risk", all=_scored(_THIRDS, frequency=3)),
        Rule(id="at-risk-122", segment="at risk", all=_scored(_THIRDS, frequency=2, money=2)),
        Rule(id="at-risk-113", segment="at risk", all=_scored(_THIRDS, money=3)),
        Rule(id="inactive", segment="inactive"),
    ),
)
"""Klaviyo's 6 groups. Its own: their names and what they describe, scores of 1 to 3, and which
scores are loyal. Ours: thirds of the customers (to five percent) as the bounds of the scores, which
Klaviyo lets each account set, and which scores the other groups have."""

PRESETS: Final[Mapping[str, Dimension]] = {each.name: each for each in (RFM_SHOPIFY, RFM_KLAVIYO)}
"""Dimensions to add to a shop's own, by name."""

BUILT_IN.update(PRESETS)
