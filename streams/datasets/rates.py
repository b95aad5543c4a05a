"""The rates of the simulation, each with its reason.

A pair (median, spread) is a lognormal distribution: the median in its unit, and the standard
deviation of its logarithm. Weights are relative. Money is in the currency of the orders.
"""

from collections.abc import Mapping

TICKETS_PER_ORDER = 0.067
"""One ticket for 15 orders, the average that the help desk Gorgias reports for its shops."""

COMPLAINTS_PER_TICKET = 0.2
"""Most tickets ask where an order is; a fifth brings one complaint for 75 orders."""

TICKET_AFTER_DAYS = 4.0
"""Mean of an exponential: people write when a parcel is late or has just arrived."""

TICKET_CHANNELS: Mapping[str, float] = {
    "email": 55,
    "chat": 25,
    "phone": 12,
    "social": 5,
    "web": 3,
}
"""E-mail leads in small shops; every channel of the contract occurs."""

QUESTION_TOPICS: Mapping[str, float] = {"delivery": 45, "product": 25, "returns": 20, "billing": 10}
"""Where the order is comes first in every published breakdown of shop support."""

COMPLAINT_TOPICS: Mapping[str, float] = {"late": 45, "damaged": 30, "wrong item": 15, "billing": 10}
"""What goes wrong with a parcel, carriers first."""

QUESTION_PRIORITIES: Mapping[str, float] = {"low": 30, "normal": 65, "high": 5}
"""Questions wait."""

COMPLAINT_PRIORITIES: Mapping[str, float] = {"normal": 50, "high": 40, "urgent": 10}
"""Complaints do not."""

RESOLVED = 0.95
"""One in twenty tickets is left open, so that open tickets occur at the end of the data."""

HOURS_TO_RESOLVE = (8.3, 1.0)
"""The median that Gorgias reports for its shops; with this spread, 4 % take two days or more."""

HANDLING_MINUTES: Mapping[str, tuple[float, float]] = {
    "email": (8.0, 0.6),
    "chat": (11.0, 0.5),
    "phone": (7.0, 0.5),
    "social": (6.0, 0.6),
    "web": (8.0, 0.6),
}
"""Ten minutes is the usual order of magnitude; chat is slower per contact than the phone."""

DESK_STATES_COST = 0.2
"""Some help desks send a cost, most send minutes: both must occur."""

COST_PER_MINUTE = 0.55
"""33 an hour: an agent's wage with everything that comes on top."""

RATED = 0.25
"""A quarter of resolved tickets is rated, the middle of commonly reported response rates."""

RATED_AFTER_DAYS = 0.5
"""Mean of an exponential: people who rate do it the same day or the next."""

QUESTION_SCORES: Mapping[int, float] = {5: 60, 4: 24, 3: 8, 2: 4, 1: 4}
"""84 % satisfied (4 or 5), as help desks commonly report."""

COMPLAINT_SCORES: Mapping[int, float] = {5: 20, 4: 20, 3: 20, 2: 15, 1: 25}
"""Recovery pleases some and fails with others: 40 % satisfied, and many at the lowest score."""

REFUNDED = 0.03
"""Music and gifts come back seldom; clothing would be ten times this."""

REFUNDED_AFTER_COMPLAINT = 0.35
"""A third of complaints ends in money back."""

REFUNDED_AFTER_DAYS = (3.0, 30.0)
"""Uniform: from the arrival of the parcel to the end of a usual period of return."""

FULL_REFUND = 0.4
"""The rest are partial: one item of several, or a concession."""

PARTIAL_REFUND_SHARE = (0.1, 0.6)
"""Uniform: from a concession to the larger part of the order."""

COST_RECOVERED_SHARE = 0.6
"""Of a full refund: goods cost 75 % of the price, and four fifths of them can be sold again."""

CANCELLED = 0.01
"""Few: most shops ship within a day."""

CANCELLED_AFTER_HOURS = (0.1, 11.5)
"""Uniform: before the parcel leaves. A noon order is cancelled on its own day."""

ACQUIRED_BY_PAID_CHANNEL = 0.6
"""The others come by themselves: no cost and no event."""

ACQUISITION_COST = (8.0, 0.5)
"""The margin of an average CDNOW order (36 USD at 25 %): a customer who buys once breaks even."""

ACQUISITION_CHANNELS: Mapping[str, float] = {"search": 50, "affiliate": 30, "display": 20}
"""The paid channels of a shop, search first."""

ACQUIRED_BEFORE_ORDER_DAYS = 1.0
"""Mean of an exponential: most buy at the first visit, some think it over as prospects."""

SURVEY_ANSWERED = 0.03
"""A tenth of customers is asked after an order, a third of them answers."""

SURVEY_AFTER_DAYS = (7.0, 21.0)
"""Uniform: after delivery, while the order is remembered."""

SURVEY_KINDS: Mapping[str, float] = {"nps": 70, "csat": 20, "ces": 10}
"""NPS is asked most; every kind of the contract occurs."""

SURVEY_SCALES: Mapping[str, tuple[int, int]] = {"nps": (0, 10), "csat": (1, 5), "ces": (1, 7)}
"""The scales on which each is usually asked."""

SURVEY_MEAN = 0.8
"""Of the scale: an 8 of 10, a usual NPS answer."""

SURVEY_MEAN_AFTER_COMPLAINT = 0.45
"""Of the scale: on average a detractor."""

SURVEY_SPREAD = 0.2
"""Standard deviation, as a share of the scale: all answers occur."""
