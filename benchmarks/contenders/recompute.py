"""Values as they are computed today, by lifetimes from a customer's orders, at each event.

What a nightly job does for everybody, done for the one customer of each event: summarise the orders
that are kept, and ask the fitted models. It publishes the value, and keeps the orders in memory.
"""

import json
from collections import defaultdict

import pandas as pd
from confluent_kafka import Message
from lifetimes import BetaGeoFitter, GammaGammaFitter
from lifetimes.utils import summary_data_from_transaction_data

from benchmarks.contenders.customer import Customer, event_of, fold, update
from benchmarks.contenders.librdkafka import consume
from benchmarks.contenders.ours import PARAMETERS
from benchmarks.contenders.settings import Settings
from models.btyd import BgNbd, GammaGamma
from models.contracts import OrderPlaced

HORIZON_WEEKS = 52


def fitted() -> tuple[BetaGeoFitter, GammaGammaFitter]:
    """Return lifetimes' models with the parameters that ours have."""
    purchases, order_value = BetaGeoFitter(), GammaGammaFitter()
    assert isinstance(PARAMETERS.purchases, BgNbd)
    assert isinstance(PARAMETERS.order_value, GammaGamma)
    p, v = PARAMETERS.purchases, PARAMETERS.order_value
    purchases.params_ = pd.Series({"r": p.r, "alpha": p.alpha, "a": p.a, "b": p.b})
    order_value.params_ = pd.Series({"p": v.p, "q": v.q, "v": v.v})
    return purchases, order_value


class Recomputed:
    """Customers' orders, and the value that lifetimes computes from them."""

    def __init__(self) -> None:
        self._purchases, self._order_value = fitted()
        self._orders: dict[str, list[tuple[str, pd.Timestamp, float]]] = defaultdict(list)
        self._sums: dict[str, Customer] = defaultdict(dict)

    def process(self, message: Message) -> bytes:
        """Take an event, and return the customer's update."""
        event = event_of(message.key(), message.value(), message.headers())
        customer = event.data.customer_id
        self._sums[customer] = fold(self._sums[customer], event)
        if isinstance(event.data, OrderPlaced):
            at = pd.Timestamp(event.data.placed_at).tz_localize(None)
            self._orders[customer].append((customer, at, float(event.data.total)))
        told = update(customer, self._sums[customer])
        if self._orders[customer]:
            told["value"] = self._value(self._orders[customer])
        return json.dumps(told).encode()

    def _value(self, orders: list[tuple[str, pd.Timestamp, float]]) -> float:
        frame = pd.DataFrame(orders, columns=["id", "at", "total"])
        summary = summary_data_from_transaction_data(
            frame, "id", "at", monetary_value_col="total", freq="W"
        )
        expected = self._purchases.conditional_expected_number_of_purchases_up_to_time(
            HORIZON_WEEKS, summary["frequency"], summary["recency"], summary["T"]
        )
        mean = self._order_value.conditional_expected_average_profit(
            summary["frequency"], summary["monetary_value"]
        )
        return round(float((expected * mean).iloc[0]), 2)


def main() -> None:
    customers = Recomputed()
    consume(Settings.from_environ(), customers.process)


if __name__ == "__main__":
    main()
