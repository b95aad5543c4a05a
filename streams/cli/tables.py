"""Tables of customers and segments, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from models.segments import DEFAULT_DIMENSIONS
from streams.cache import SegmentTotals

Totals = Mapping[str, Mapping[str, SegmentTotals]]
Data = Mapping[str, Any]
"""`data` of a published value update."""


def money(amount: float) -> str:
    """An amount in the reporting currency."""
    return f"{amount:,.2f}"


def share(probability: float | None) -> str:
    """A probability as a percentage; a dash when there is none."""
    return "-" if probability is None else f"{probability:.1%}"


def segment_order(dimension: str, found: Mapping[str, SegmentTotals]) -> list[str]:
    """The segments in the order of their rules, and after them any others."""
    rules = next((each.rules for each in DEFAULT_DIMENSIONS if each.name == dimension), ())
    known = [rule.segment for rule in rules if rule.segment in found]
    return known + [segment for segment in found if segment not in known]


def segments_table(totals: Totals, currency: str, note: str = "") -> Table:
    """Customers and value by segment, for every dimension."""
    table = Table(title="Segments", caption=note or None)
    table.add_column("dimension")
    table.add_column("segment")
    table.add_column("customers", justify="right")
    table.add_column("share", justify="right")
    table.add_column(f"value {currency}".strip(), justify="right")
    table.add_column("each", justify="right")
    for dimension, found in totals.items():
        everybody = sum(total.customers for total in found.values())
        label = dimension
        for segment in segment_order(dimension, found):
            total = found[segment]
            table.add_row(
                label,
                segment,
                f"{total.customers:,}",
                share(total.customers / everybody),
                money(float(total.value)),
                money(float(total.value) / total.customers),
            )
            label = ""
        table.add_section()
    return table


def segments_document(totals: Totals) -> dict[str, dict[str, dict[str, float]]]:
    """The same as a document."""
    return {
        dimension: {
            segment: {
                "customers": found[segment].customers,
                "value": float(found[segment].value),
            }
            for segment in segment_order(dimension, found)
        }
        for dimension, found in totals.items()
    }


def top_table(customers: Sequence[Data], title: str, note: str = "") -> Table:
    """Customers with what makes their value."""
    currency = customers[0]["currency"] if customers else ""
    table = Table(
        title=title,
        caption=f"value = margin - cost to serve - acquisition + expected; {currency}. {note}",
    )
    table.add_column("customer", no_wrap=True)
    for name in (
        "value", "margin", "cost to serve", "acquisition", "expected", "orders to come",
        "order value", "P(alive)",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    table.add_column("segments")
    for data in customers:
        realised, expected = data["realised"], data["expected"]
        table.add_row(
            data["customer_id"],
            money(data["clv"]),
            money(realised["margin"]),
            money(realised["cost_to_serve"]),
            money(realised["acquisition_cost"]),
            money(expected["total"]),
            f"{expected['orders']:.2f}",
            money(expected["order_value"]),
            share(data["p_alive"]),
            ", ".join(data["segments"].values()),
        )
    return table


def customer_tables(data: Data) -> list[Table]:
    """Why one customer is worth what they are."""
    realised, expected, totals = data["realised"], data["expected"], data["totals"]
    statistics, levers = data["statistics"], data["levers"]
    worth = Table(
        title=f"Customer {data['customer_id']}",
        caption=f"as of {data['as_of']}, version {data['version']}; "
        f"{data['model']['name']} {data['model']['version']}".rstrip(),
        show_header=False,
    )
    worth.add_column()
    worth.add_column(justify="right")
    for name, text in (
        (f"Value ({data['currency']})", money(data["clv"])),
        ("  realised", money(realised["total"])),
        ("    margin earned", money(realised["margin"])),
        ("    - cost to serve", money(realised["cost_to_serve"])),
        ("    - acquisition cost", money(realised["acquisition_cost"])),
        ("  expected", money(expected["total"])),
        ("    orders to come (discounted)", f"{expected['orders']:.3f}"),
        ("    x margin of an order", money(expected["margin_per_order"])),
        ("      of an order value of", money(expected["order_value"])),
        ("    - cost to serve", money(expected["cost_to_serve"])),
        ("P(alive)", share(data["p_alive"])),
        ("frequency, recency, T (days)",
         f"{statistics['frequency']}, {statistics['recency']}, {statistics['T']}"),
        ("orders on days", f"{totals['orders']} on {totals['purchase_days']}"),
        ("gross, refunded", f"{money(totals['gross'])}, {money(totals['refunded'])}"),
        ("contacts, complaints", f"{totals['contacts']}, {totals['complaints']}"),
        *((f"segment: {name}", segment) for name, segment in data["segments"].items()),
    ):  # fmt: skip
        worth.add_row(name, text)
    improve = Table(title="What 10 % more would add", show_header=False)
    improve.add_column()
    improve.add_column(justify="right")
    for name, amount in levers.items():
        label = "less acquisition cost" if name == "acquisition_cost" else name.replace("_", " ")
        improve.add_row(label, money(amount))
    windows = Table(title="Windows")
    for name in ("last days", "orders", "revenue", "margin", "contacts"):
        windows.add_column(name, justify="right")
    for length, window in data["windows"].items():
        windows.add_row(
            length,
            str(window["orders"]),
            money(window["revenue"]),
            money(window["margin"]),
            str(window["contacts"]),
        )
    return [worth, improve, windows]


def changes_table(changes: Sequence[Data], note: str = "") -> Table:
    """Segment changes with their reasons; newest first."""
    table = Table(title="Latest segment changes", caption=note or None)
    for name in ("as of", "customer", "dimension", "from", "to", "because"):
        table.add_column(name)
    for change in changes:
        reason = change["reason"]["values"]
        table.add_row(
            change["as_of"][:10],
            change["customer_id"],
            change["dimension"],
            change["previous"] or "-",
            change["current"],
            ", ".join(
                f"{name.replace('_', ' ')} {'-' if value is None else format(value, '.6g')}"
                for name, value in reason.items()
            ),
        )
    return table
