"""The simple formula and its levers for each segment, beside what the models say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from models.formulas import Levers, margin_clv, margin_clv_levers


@dataclass(slots=True)
class SegmentSums:
    """Sums over the customers of one segment; money in the reporting currency.

    margin: earned so far, net of refunds, before support and acquisition. value: by the models.
    """

    customers: int = 0
    orders: int = 0
    gross: float = 0.0
    margin: float = 0.0
    acquisition_cost: float = 0.0
    value: float = 0.0

    def add(self, data: Mapping[str, Any]) -> None:
        """Count a customer; data: of their last `clv.updated` event."""
        self.customers += 1
        self.orders += data["totals"]["orders"]
        self.gross += data["totals"]["gross"]
        self.margin += data["realised"]["margin"]
        self.acquisition_cost += data["realised"]["acquisition_cost"]
        self.value += data["clv"]


@dataclass(frozen=True, slots=True)
class SegmentFormula:
    """The inputs of the margin formula for the mean customer of a segment, and what it gives.

    orders: per customer so far. model_value: the mean value by the models.
    """

    customers: int
    average_order_value: float
    orders: float
    acquisition_cost: float
    profit_margin: float
    formula_value: float
    model_value: float
    levers: Levers


def sums_by_segment(
    updates: Iterable[Mapping[str, Any]],
) -> dict[str, dict[str, SegmentSums]]:
    """Sum customers by dimension and segment."""
    sums: dict[str, dict[str, SegmentSums]] = {}
    for data in updates:
        for dimension, segment in data["segments"].items():
            sums.setdefault(dimension, {}).setdefault(segment, SegmentSums()).add(data)
    return sums


def segment_formula(sums: SegmentSums) -> SegmentFormula:
    """Return the margin formula for the mean customer; without orders its inputs are 0."""
    customers = sums.customers
    average = sums.gross / sums.orders if sums.orders else 0.0
    orders = sums.orders / customers
    acquisition = sums.acquisition_cost / customers
    margin = sums.margin / sums.gross if sums.gross else 0.0
    return SegmentFormula(
        customers,
        average,
        orders,
        acquisition,
        margin,
        margin_clv(average, orders, acquisition, margin),
        sums.value / customers,
        margin_clv_levers(average, orders, acquisition, margin),
    )
