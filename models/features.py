"""The registry of features: the numbers that segment rules may use, with unit and meaning.

To add a feature, add an entry to `FEATURES`. Rules, the evidence in segment changes, `clv features`
and docs/features.md follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.aggregate.windows import WINDOWS, Window, leaving_days, rolling_windows
from models.economics import MONEY_SCALE, Economics
from models.value import Values

Floats = NDArray[np.float64]

NEVER: Final = "never"
UNBOUGHT: Final = "before the first order"
ONCE: Final = "with fewer than two purchase days"


class Silence(Enum):
    """How a feature moves while nothing happens to the customer."""

    STAYS = "stays"
    DAILY = "moves daily"
    """One that is read from the state grows by one a day."""
    STEPS = "moves when an entry leaves the window"


DAYS, MONEY, SHARE = "days", "money", "0 to 1"


@dataclass(frozen=True)
class Measured:
    """One customer as of a day, for features that are computed from the state."""

    aggregate: Aggregate
    summary: Summary
    today: int
    """Ordinal of the day in the shop's time zone."""
    economics: Economics

    @cached_property
    def windows(self) -> dict[str, Window]:
        """The rolling windows that end today, by their length in days."""
        return rolling_windows(self.aggregate, self.today, self.economics)


@dataclass(frozen=True)
class Feature:
    """A number that rules can use.

    Exactly one of two functions is given. of: returns its column from the values of many customers.
    read: computes it from one customer's state, only while a rule uses it.
    missing: when it is nan; a comparison with nan is false.
    silence: how it moves while nothing happens. steps: yields the ordinals of the days after today
    on which one that moves in steps may do so.
    """

    name: str
    unit: str
    meaning: str
    of: Callable[[Values], Floats] | None = None
    read: Callable[[Measured], float] | None = None
    missing: str = NEVER
    silence: Silence = Silence.STAYS
    steps: Callable[[Measured], Iterable[int]] | None = None


def _windows() -> Iterable[Feature]:
    for length in WINDOWS:
        for field, unit, meaning in (
            ("orders", "orders", "orders"),
            ("revenue", MONEY, "revenue net of refunds"),
            ("margin", MONEY, "margin net of refunds"),
            ("contacts", "contacts", "support contacts"),
        ):
            yield Feature(
                f"{field}_{length}d",
                unit,
                f"{meaning} in the last {length} days, today included",
                read=lambda of, length=length, field=field: of.windows[str(length)][field],  # type: ignore[misc]
                silence=Silence.STEPS,
                steps=lambda of, length=length: leaving_days(  # type: ignore[misc]
                    of.aggregate, of.today, length, of.economics
                ),
            )


_ALL = (
    Feature("orders", "orders", "orders that are not cancelled", lambda v: v.orders),
    Feature("purchase_days", DAYS, "calendar days with an order", lambda v: v.purchase_days),
    Feature("frequency", DAYS, "purchase days after the first", lambda v: v.frequency),
    Feature("recency", DAYS, "from the first purchase day to the last", lambda v: v.recency),
    Feature("T", DAYS, "since the first purchase day", lambda v: v.T, silence=Silence.DAILY),
    Feature(
        "days_since_last_order",
        DAYS,
        "since the last purchase day",
        lambda v: v.days_since_last_order,
        missing=UNBOUGHT,
        silence=Silence.DAILY,
    ),
    Feature(
        "mean_gap", DAYS, "mean time between purchase days", lambda v: v.mean_gap, missing=ONCE
    ),
    Feature(
        "monetary_value",
        MONEY,
        "mean revenue of the purchase days after the first, before refunds",
        lambda v: v.monetary_value,
    ),
    Feature(
        "p_alive",
        SHARE,
        "probability that the customer has not stopped buying",
        lambda v: v.p_alive,
        missing=UNBOUGHT,
        silence=Silence.DAILY,
    ),
    Feature(
        "p_purchase",
        SHARE,
        "probability of a purchase within 365 days",
        lambda v: v.p_purchase,
        missing=UNBOUGHT,
        silence=Silence.DAILY,
    ),
    Feature(
        "expected_purchases",
        DAYS,
        "purchase days expected within the horizon, discounted",
        lambda v: v.expected_purchases,
        silence=Silence.DAILY,
    ),
    Feature(
        "purchase_value", MONEY, "expected revenue of a purchase day", lambda v: v.purchase_value
    ),
    Feature(
        "margin_per_purchase",
        MONEY,
        "expected margin of a purchase day, net of refunds",
        lambda v: v.margin_per_purchase,
    ),
    Feature(
        "expected_contacts",
        "contacts",
        "support contacts expected within the horizon, discounted",
        lambda v: v.expected_contacts,
        silence=Silence.DAILY,
    ),
    Feature("realised", MONEY, "value so far: benefits less costs", lambda v: v.realised),
    Feature(
        "expected",
        MONEY,
        "value expected within the horizon",
        lambda v: v.expected,
        silence=Silence.DAILY,
    ),
    Feature(
        "expected_low",
        MONEY,
        "its 10th percentile: nine in ten customers are worth more",
        lambda v: v.expected_low,
        silence=Silence.DAILY,
    ),
    Feature(
        "expected_high",
        MONEY,
        "its 90th percentile: nine in ten customers are worth less",
        lambda v: v.expected_high,
        silence=Silence.DAILY,
    ),
    Feature(
        "clv", MONEY, "realised and expected value together", lambda v: v.clv, silence=Silence.DAILY
    ),
    Feature(
        "gross",
        MONEY,
        "revenue so far, before refunds",
        read=lambda of: of.summary.gross / MONEY_SCALE,
    ),
    Feature("refunds", "refunds", "refunds so far", read=lambda of: of.summary.refunds),
    Feature(
        "refunded", MONEY, "refunded so far", read=lambda of: of.summary.refunded / MONEY_SCALE
    ),
    Feature("contacts", "contacts", "support contacts so far", read=lambda of: of.summary.contacts),
    Feature("complaints", "contacts", "complaints so far", read=lambda of: of.summary.complaints),
    Feature(
        "cost_to_serve",
        MONEY,
        "cost of support contacts so far",
        read=lambda of: of.summary.support_cost / MONEY_SCALE,
    ),
    Feature(
        "acquisition_cost",
        MONEY,
        "what winning the customer cost",
        read=lambda of: of.summary.acquisition_cost / MONEY_SCALE,
    ),
    *_windows(),
)

FEATURES: Final[dict[str, Feature]] = {feature.name: feature for feature in _ALL}
"""Every feature by its name; money is in the reporting currency."""


def table_of_features() -> str:
    """Return the features as the Markdown table of docs/features.md."""
    rows = [
        f"| `{feature.name}` | {feature.unit} | {feature.meaning} | {feature.missing} "
        f"| {feature.silence.value} |"
        for feature in FEATURES.values()
    ]
    return (
        "\n".join(
            ("| feature | unit | meaning | missing | in silence |", "|---|---|---|---|---|", *rows)
        )
        + "\n"
    )
