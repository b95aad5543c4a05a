"""Tables of customers and segments, for people."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from models.segments import DEFAULT_DIMENSIONS
from models.totals import TotalValue
from streams.cache import SegmentTotals
from streams.moved import MOVED

Totals = Mapping[str, Mapping[str, SegmentTotals]]
Expected = Mapping[str, Mapping[str, TotalValue]]
Data = Mapping[str, Any]
"""`data` of a published value update."""


def money(amount: float | None) -> str:
    """An amount in the reporting currency; a dash when there is none."""
    return "-" if amount is None else f"{amount:,.2f}"


def share(probability: float | None) -> str:
    """A probability as a percentage; a dash when there is none."""
    return "-" if probability is None else f"{probability:.1%}"


def pairs(rows: Iterable[tuple[str, str]], title: str, caption: str | None = None) -> Table:
    """A table of names and values."""
    table = Table(title=title, caption=caption, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def segment_names(dimension: str, found: Collection[str]) -> list[str]:
    """The segments in the order of their rules, and after them any others."""
    rules = next((each.rules for each in DEFAULT_DIMENSIONS if each.name == dimension), ())
    # Several rules may lead to one segment.
    known = dict.fromkeys(rule.segment for rule in rules if rule.segment in found)
    return [*known, *(segment for segment in found if segment not in known)]


def segments_table(totals: Totals, currency: str, note: str = "") -> Table:
    """Customers and value by segment, for every dimension."""
    table = Table("dimension", "segment", title="Segments", caption=note or None)
    for name in ("customers", "share", f"value {currency}".strip(), "each"):
        table.add_column(name, justify="right")
    for dimension, found in totals.items():
        everybody = sum(total.customers for total in found.values())
        label = dimension
        for segment in segment_names(dimension, found):
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


def _expected_document(total: TotalValue | None) -> dict[str, float]:
    if total is None:
        return {}
    return {
        "expected_purchases": total.purchases.purchases,
        "purchases_low": total.purchases.low,
        "purchases_high": total.purchases.high,
        "expected": total.expected,
        "expected_low": total.low,
        "expected_high": total.high,
    }


def expected_table(expected: Expected, currency: str, days: int) -> Table:
    """What each segment is expected to buy and to be worth, with 10th and 90th percentile."""
    table = Table("dimension", "segment", title=f"Expected within {days:,} days")
    for name in ("purchases", "10 %", "90 %", f"value {currency}", "10 %", "90 %"):
        table.add_column(name, justify="right")
    for dimension, found in expected.items():
        for segment in segment_names(dimension, found):
            total = found[segment]
            bought = total.purchases
            counts = (f"{each:,.0f}" for each in (bought.purchases, bought.low, bought.high))
            amounts = (money(each) for each in (total.expected, total.low, total.high))
            table.add_row(dimension, segment, *counts, *amounts)
        table.add_section()
    return table


def segments_document(
    totals: Totals, expected: Expected | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """The same as a document; expected: within the horizon, where it is known."""
    more = expected or {}
    return {
        dimension: {
            segment: {
                "customers": found[segment].customers,
                "value": float(found[segment].value),
                **_expected_document(more.get(dimension, {}).get(segment)),
            }
            for segment in segment_names(dimension, found)
        }
        for dimension, found in totals.items()
    }


_AMOUNTS: Mapping[str, Callable[[Data], str]] = {
    "value": lambda data: money(data["clv"]),
    "margin": lambda data: money(data["realised"]["margin"]),
    "cost to serve": lambda data: money(data["realised"]["cost_to_serve"]),
    "acquisition": lambda data: money(data["realised"]["acquisition_cost"]),
    "expected": lambda data: money(data["expected"]["total"]),
    "purchases to come": lambda data: money(data["expected"].get("purchases")),
    "of": lambda data: money(data["expected"].get("purchase_value")),
    "P(purchase)": lambda data: share(data.get("p_purchase")),
}


def top_table(customers: Sequence[Data], title: str, note: str = "") -> Table:
    """Customers with what makes their value."""
    currency = customers[0]["currency"] if customers else ""
    table = Table(
        title=title,
        caption=f"value = margin - cost to serve - acquisition + expected; {currency}. {note}",
    )
    table.add_column("customer", no_wrap=True)
    for name in _AMOUNTS:
        table.add_column(name, justify="right")
    table.add_column("segments")
    for data in customers:
        amounts = [amount(data) for amount in _AMOUNTS.values()]
        table.add_row(data["customer_id"], *amounts, ", ".join(data["segments"].values()))
    return table


def customer_tables(data: Data) -> list[Table]:
    """Why one customer is worth what they are."""
    realised, expected, totals = data["realised"], data["expected"], data["totals"]
    statistics, levers = data["statistics"], data["levers"]

    def between(name: str, shown: Callable[[float], str]) -> str:
        ends = [expected.get(f"{name}_{end}") for end in ("low", "high")]
        return "-" if None in ends else " and ".join(map(shown, ends))

    rows = (
        (f"Value ({data['currency']})", money(data["clv"])),
        ("  realised", money(realised["total"])),
        ("    margin earned", money(realised["margin"])),
        ("    - cost to serve", money(realised["cost_to_serve"])),
        ("    - acquisition cost", money(realised["acquisition_cost"])),
        ("  expected", money(expected["total"])),
        ("    in 8 of 10 cases between", between("total", money)),
        ("    purchases to come (discounted)", money(expected.get("purchases"))),
        ("      in 8 of 10 cases between", between("purchases", lambda number: f"{number:g}")),
        ("    x margin of a purchase", money(expected.get("margin_per_purchase"))),
        ("      of a purchase value of", money(expected.get("purchase_value"))),
        ("    - cost to serve", money(expected["cost_to_serve"])),
        ("P(purchase within a year)", share(data.get("p_purchase"))),
        ("P(alive)", share(data["p_alive"])),
        ("frequency, recency, T (days)",
         f"{statistics['frequency']}, {statistics['recency']}, {statistics['T']}"),
        ("orders on days", f"{totals['orders']} on {totals['purchase_days']}"),
        ("gross, refunded", f"{money(totals['gross'])}, {money(totals['refunded'])}"),
        ("contacts, complaints", f"{totals['contacts']}, {totals['complaints']}"),
        *((f"segment: {name}", segment) for name, segment in data["segments"].items()),
    )  # fmt: skip
    worth = pairs(
        rows,
        f"Customer {data['customer_id']}",
        f"as of {data['as_of']}, version {data['version']}; "
        f"{data['model']['name']} {data['model']['version']}".rstrip(),
    )
    more = ((name.replace("_", " "), money(it)) for name, it in levers.items())
    improve = pairs(more, "What 10 % more would add to what is expected")
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
    moved = data.get("moved")
    return [worth, improve, windows, *([moved_table(moved)] if moved else [])]


def moved_table(moved: Mapping[str, float]) -> Table:
    """What has moved a value since the update before."""
    parts = ((f"  {words}", f"{moved[name]:+,.2f}") for name, words in MOVED.items())
    rows = [
        ("The update before", money(moved["from"])),
        *(part for name, part in zip(MOVED, parts, strict=True) if moved[name]),
        ("This one", money(moved["to"])),
    ]
    return pairs(rows, "What has moved it")


def changes_table(changes: Sequence[Data], title: str, note: str = "") -> Table:
    """Segment changes with their reasons."""
    headings = ("as of", "customer", "dimension", "from", "to", "because")
    table = Table(*headings, title=title, caption=note or None)
    for change in changes:
        table.add_row(
            change["as_of"][:10],
            change["customer_id"],
            change["dimension"],
            change["previous"] or "-",
            change["current"] or "-",
            change["reason"]["text"],
        )
    return table
