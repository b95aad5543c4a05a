"""The registry of features, with unit, meaning, and how each moves while a customer is silent.

To add a feature, add an entry to `FEATURES`. Rules, the evidence in segment changes, `clv features`
and docs/features.md follow from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from models.aggregate.windows import WINDOWS, leaving_days
from models.economics import MONEY_SCALE
from models.events.acquisitions import first_channel
from models.features.feature import (
    DAYS,
    MONEY,
    ONCE,
    SHARE,
    TEXT,
    TWICE,
    UNBOUGHT,
    Feature,
    Silence,
)
from models.features.gaps import days_since, tenure, variation
from models.features.seasons import season_ends, season_share

DAILY, STEPS = Silence.DAILY, Silence.STEPS

NO_SCORE: Final = "before the first one"

_PURCHASES = (
    Feature(
        "orders",
        "orders",
        "orders that are not cancelled",
        lambda v: v.orders,
        label="the number of orders",
    ),
    Feature(
        "purchase_days",
        DAYS,
        "calendar days with an order",
        lambda v: v.purchase_days,
        label="the number of days with an order",
    ),
    Feature("frequency", DAYS, "purchase days after the first", lambda v: v.frequency),
    Feature("recency", DAYS, "from the first purchase day to the last", lambda v: v.recency),
    Feature(
        "T",
        DAYS,
        "since the first purchase day; 0 without one",
        lambda v: v.T,
        silence=DAILY,
        way=1,
    ),
    Feature(
        "tenure",
        DAYS,
        "since the first event that is known of the customer",
        read=lambda of: tenure(of.aggregate, of.summary, of.today, of.economics),
        silence=DAILY,
        way=1,
    ),
    Feature(
        "days_since_first_order",
        DAYS,
        "since the first purchase day",
        read=lambda of: days_since(of.summary.first_day, of.today),
        missing=UNBOUGHT,
        silence=DAILY,
        way=1,
    ),
    Feature(
        "days_since_last_order",
        DAYS,
        "since the last purchase day",
        lambda v: v.days_since_last_order,
        label="the number of days since the last order",
        missing=UNBOUGHT,
        silence=DAILY,
        way=1,
    ),
    Feature(
        "mean_gap",
        DAYS,
        "mean time between purchase days",
        lambda v: v.mean_gap,
        missing=ONCE,
        label="the mean number of days between purchases",
    ),
    Feature(
        "gap_variation",
        "ratio",
        "standard deviation of the times between purchase days, by their mean: 0 of a regular "
        "buyer, about 1 of a random one; of remembered orders",
        read=lambda of: variation(of.aggregate, of.economics),
        missing=TWICE,
    ),
    Feature(
        "silent_gaps",
        "ratio",
        "`days_since_last_order` by `mean_gap`",
        lambda v: v.days_since_last_order / v.mean_gap,
        missing=ONCE,
        label="the time since the last order, in mean times between orders,",
        silence=DAILY,
        way=1,
    ),
    Feature(
        "monetary_value",
        MONEY,
        "mean revenue of the purchase days after the first, before refunds",
        lambda v: v.monetary_value,
    ),
)

_SEASONS = (
    Feature(
        "purchase_months",
        "months",
        "calendar months with an order",
        read=lambda of: len(of.summary.months),
        label="the number of months with an order",
    ),
    Feature(
        "purchase_years",
        "years",
        "calendar years with an order",
        read=lambda of: len({month // 12 for month in of.summary.months}),
    ),
    Feature(
        "season_months",
        "months",
        "length of the shortest run of calendar months, of any year, that has all purchase days",
        read=lambda of: of.season.months,
        label="the number of months, running, in which the orders of all years lie",
    ),
    Feature(
        "season_ends",
        "1 to 12",
        "month of the year with which that run ends, 12 for December; 0 without an order",
        read=lambda of: of.season.ends,
        label="the last month of the season",
    ),
    Feature(
        "seasons",
        "years",
        "in how many years that run had an order",
        read=lambda of: of.season.seasons,
        label="the number of years with an order in the season",
    ),
    Feature(
        "seasons_missed",
        "years",
        "how often that run has passed without an order since the first one",
        read=lambda of: of.season.missed,
        label="the number of seasons missed since the first",
        silence=STEPS,
        steps=lambda of: season_ends(of.season, of.today),
        monthly=True,
    ),
    Feature(
        "season_share",
        SHARE,
        "share of the purchase days that lie in the three months of the year, running, with most; "
        "0 without an order",
        read=lambda of: season_share(of.summary.months),
    ),
)

_EXPECTED = (
    Feature(
        "p_alive",
        SHARE,
        "probability that the customer has not stopped buying",
        lambda v: v.p_alive,
        label="the probability of being alive",
        missing=UNBOUGHT,
        silence=DAILY,
        way=-1,
    ),
    Feature(
        "p_purchase",
        SHARE,
        "probability of a purchase within 365 days",
        lambda v: v.p_purchase,
        label="the probability of a purchase within a year",
        missing=UNBOUGHT,
        silence=DAILY,
        way=-1,
    ),
    Feature(
        "expected_purchases",
        DAYS,
        "purchase days expected within the horizon, discounted",
        lambda v: v.expected_purchases,
        silence=DAILY,
        way=-1,
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
        "expected_revenue",
        MONEY,
        "revenue expected within the horizon, discounted, before refunds",
        lambda v: v.expected_purchases * v.purchase_value,
        silence=DAILY,
        way=-1,
    ),
    Feature(
        "expected_margin",
        MONEY,
        "margin expected within the horizon, discounted, net of refunds",
        lambda v: v.expected_purchases * v.margin_per_purchase,
        silence=DAILY,
    ),
    Feature(
        "expected_contacts",
        "contacts",
        "support contacts expected within the horizon, discounted",
        lambda v: v.expected_contacts,
        silence=DAILY,
    ),
    Feature(
        "expected_support_cost",
        MONEY,
        "cost of the expected contacts",
        lambda v: v.expected_support_cost,
        silence=DAILY,
    ),
    Feature(
        "expected",
        MONEY,
        "value expected within the horizon",
        lambda v: v.expected,
        silence=DAILY,
        label="the value expected within the horizon",
    ),
    Feature(
        "expected_low",
        MONEY,
        "its 10th percentile: nine in ten customers are worth more",
        lambda v: v.expected_low,
        silence=DAILY,
    ),
    Feature(
        "expected_high",
        MONEY,
        "its 90th percentile: nine in ten customers are worth less",
        lambda v: v.expected_high,
        silence=DAILY,
    ),
    Feature(
        "clv",
        MONEY,
        "realised and expected value together",
        lambda v: v.clv,
        silence=DAILY,
        label="the value",
    ),
)

_SO_FAR = (
    Feature(
        "realised",
        MONEY,
        "value so far: benefits less costs",
        lambda v: v.realised,
        label="the value so far",
    ),
    Feature(
        "spent",
        MONEY,
        "revenue so far of orders that were not returned",
        lambda v: v.spent,
        label="the money spent",
    ),
    Feature(
        "gross",
        MONEY,
        "revenue so far, before refunds",
        read=lambda of: of.summary.gross / MONEY_SCALE,
    ),
    Feature(
        "average_order",
        MONEY,
        "mean revenue of an order, before refunds",
        read=lambda of: of.summary.gross / MONEY_SCALE / (of.summary.orders or math.nan),
        missing=UNBOUGHT,
    ),
    Feature(
        "margin",
        MONEY,
        "margin so far, net of refunds",
        read=lambda of: of.summary.margin(of.economics) / MONEY_SCALE,
    ),
    Feature("refunds", "refunds", "refunds so far", read=lambda of: of.summary.refunds),
    Feature(
        "refunded", MONEY, "refunded so far", read=lambda of: of.summary.refunded / MONEY_SCALE
    ),
    Feature(
        "acquisition_channel",
        TEXT,
        "by which channel the customer was won first: its first 40 bytes",
        read=lambda of: first_channel(of.aggregate),
        missing="where no acquisition says it",
        label="the channel of acquisition",
    ),
    Feature(
        "acquisition_cost",
        MONEY,
        "what winning the customer cost",
        read=lambda of: of.summary.acquisition_cost / MONEY_SCALE,
    ),
)

_SUPPORT = (
    Feature("contacts", "contacts", "support contacts so far", read=lambda of: of.summary.contacts),
    Feature("complaints", "contacts", "complaints so far", read=lambda of: of.summary.complaints),
    Feature(
        "days_since_complaint",
        DAYS,
        "since the last complaint",
        read=lambda of: days_since(
            of.summary.complaints and of.economics.day(of.summary.last_complaint), of.today
        ),
        missing=NO_SCORE,
        silence=DAILY,
        way=1,
    ),
    Feature(
        "open_tickets",
        "tickets",
        "tickets that were opened and are not resolved, of those remembered",
        read=lambda of: of.support.open_tickets,
    ),
    Feature(
        "cost_to_serve",
        MONEY,
        "cost of support contacts so far",
        read=lambda of: of.summary.support_cost / MONEY_SCALE,
    ),
    Feature(
        "satisfaction",
        SHARE,
        "the last score that the customer gave, of a ticket or in a survey, 1 for the best",
        read=lambda of: of.support.latest,
        missing=NO_SCORE,
    ),
    Feature(
        "ticket_rating",
        SHARE,
        "mean score of the tickets that the customer rated, of those remembered",
        read=lambda of: of.support.rating,
        missing=NO_SCORE,
    ),
    *(
        Feature(
            kind,
            SHARE,
            f"the last answer to a survey of {what}, on its scale",
            read=lambda of, kind=kind: getattr(of.support, kind),  # type: ignore[misc]
            missing=NO_SCORE,
        )
        for kind, what in (
            ("nps", "recommendation (NPS)"),
            ("csat", "satisfaction (CSAT)"),
            ("ces", "effort (CES)"),
        )
    ),
)


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
                silence=STEPS,
                steps=lambda of, length=length: leaving_days(  # type: ignore[misc]
                    of.aggregate, of.today, length, of.economics
                ),
            )


_ALL = (*_PURCHASES, *_SEASONS, *_EXPECTED, *_SO_FAR, *_SUPPORT, *_windows())

FEATURES: Final[dict[str, Feature]] = {feature.name: feature for feature in _ALL}
"""Every feature by its name; money is in the reporting currency."""


def table_of_features() -> str:
    """Return the features as the Markdown table of docs/features.md."""
    rows = [
        f"| `{each.name}` | {each.unit} | {each.meaning} | {each.missing} | {each.in_silence} |"
        for each in FEATURES.values()
    ]
    head = "| feature | unit | meaning | missing | in silence |", "|---|---|---|---|---|"
    return "\n".join((*head, *rows)) + "\n"
