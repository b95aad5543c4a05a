"""The textbook formulas of customer lifetime value, and their four levers."""

from dataclasses import dataclass


def average_clv(average_order_value: float, purchase_frequency: float, lifespan: float) -> float:
    """Return average order value × purchase frequency × customer lifespan.

    purchase_frequency in orders per unit of time, lifespan in the same unit; the result is revenue.
    Source: the textbook formula of average customer lifetime value.

    >>> average_clv(average_order_value=50.0, purchase_frequency=4.0, lifespan=3.0)
    600.0
    """
    return average_order_value * purchase_frequency * lifespan


def margin_clv(
    average_order_value: float,
    orders_per_lifetime: float,
    acquisition_cost: float,
    profit_margin: float,
) -> float:
    """Return ((average order value × orders per lifetime) − acquisition cost) × profit margin.

    profit_margin is a fraction of revenue: 0.20 is 20 %. Source: the textbook formula of lifetime
    value with margin and acquisition cost; note that it applies the margin to the acquisition cost
    too. Its published example:

    >>> f"{margin_clv(90, 3, 6, 0.20):.2f}"
    '52.80'
    """
    return (average_order_value * orders_per_lifetime - acquisition_cost) * profit_margin


def customer_value(benefits: float, costs: float) -> float:
    """Return benefits − costs. Source: the textbook definition of customer value.

    >>> customer_value(benefits=120.0, costs=45.0)
    75.0
    """
    return benefits - costs


@dataclass(frozen=True, slots=True)
class Levers:
    """What improving each input of margin_clv alone would add to it, in the value's unit.

    order_value, orders and profit_margin are raised by the share; acquisition_cost is lowered by
    it, because less of it is the improvement.
    """

    order_value: float
    orders: float
    acquisition_cost: float
    profit_margin: float


def margin_clv_levers(
    average_order_value: float,
    orders_per_lifetime: float,
    acquisition_cost: float,
    profit_margin: float,
    share: float = 0.10,
) -> Levers:
    """Return what an improvement by share (default 10 %) of each input would add to margin_clv.

    >>> levers = margin_clv_levers(90, 3, 6, 0.20)
    >>> f"{levers.order_value:.2f} {levers.orders:.2f}"
    '5.40 5.40'
    >>> f"{levers.acquisition_cost:.2f} {levers.profit_margin:.2f}"
    '0.12 5.28'
    """
    revenue = average_order_value * orders_per_lifetime
    one_more_share = revenue * profit_margin * share
    return Levers(
        order_value=one_more_share,
        orders=one_more_share,
        acquisition_cost=acquisition_cost * profit_margin * share,
        profit_margin=(revenue - acquisition_cost) * profit_margin * share,
    )
