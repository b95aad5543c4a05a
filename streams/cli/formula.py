"""`clv formula`: the simple formulas that people know, by numbers or by segment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from models.formulas import (
    Levers,
    average_clv,
    customer_value,
    margin_clv,
    margin_clv_levers,
)
from models.segment_formulas import SegmentFormula, segment_formula, sums_by_segment
from streams.cli import options
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json
from streams.cli.running import run
from streams.cli.show import reading
from streams.cli.tables import money, pairs, segment_names, share

formula = options.group("Simple formulas of customer value, with their levers.")

OrderValue = Annotated[float, typer.Option("--order-value", help="Average value of an order.")]
AsJson = options.AsJson


@formula.command()
def average(
    *,
    order_value: OrderValue,
    frequency: Annotated[float, typer.Option(help="Orders per unit of time, such as a year.")],
    lifespan: Annotated[float, typer.Option(help="How long a customer stays, in that unit.")],
    as_json: AsJson = False,
) -> None:
    """Order value x frequency x lifespan, as revenue."""
    _tell(average_clv(order_value, frequency, lifespan), None, as_json)


@formula.command()
def margin(
    *,
    order_value: OrderValue,
    orders: Annotated[float, typer.Option(help="Orders of a customer, over all their time.")],
    acquisition_cost: Annotated[float, typer.Option(help="What winning the customer costs.")] = 0.0,
    margin: Annotated[float, typer.Option("--margin", help="Share of revenue: 0.2 is 20 %.")],
    as_json: AsJson = False,
) -> None:
    """(Order value x orders - acquisition cost) x margin, and what 10 % on each would add."""
    inputs = order_value, orders, acquisition_cost, margin
    _tell(margin_clv(*inputs), margin_clv_levers(*inputs), as_json)


@formula.command()
def value(
    *,
    benefits: Annotated[float, typer.Option(help="What the customer brings.")],
    costs: Annotated[float, typer.Option(help="What the customer costs.")],
    as_json: AsJson = False,
) -> None:
    """Benefits - costs."""
    _tell(customer_value(benefits, costs), None, as_json)


@formula.command()
def segments(as_json: AsJson = False) -> None:
    """The margin formula for each segment of the cached customers, beside the models' value."""
    found = run(_by_segment())
    if as_json:
        print_json(
            {
                dimension: {segment: asdict(of) for segment, of in those.items()}
                for dimension, those in found.items()
            }
        )
        return
    out().print(formula_table(found, load_settings().economics.currency))


async def _by_segment() -> dict[str, dict[str, SegmentFormula]]:
    decode = msgspec.json.decode
    updates = []
    async with reading(load_settings()) as cache:
        async for documents in cache.scan_updates():
            updates += [decode(document)["data"] for document in documents]
    if not updates:
        raise CommandError("there are no customers in the cache")
    return {
        dimension: {segment: segment_formula(sums) for segment, sums in those.items()}
        for dimension, those in sums_by_segment(updates).items()
    }


def formula_table(found: Mapping[str, Mapping[str, SegmentFormula]], currency: str) -> Table:
    """The formula by segment, for people."""
    table = Table(
        "dimension",
        "segment",
        title="(order value x orders - acquisition cost) x margin",
        caption=f"of the mean customer so far, in {currency}; +10 %: what a tenth more order value "
        "or orders, less acquisition cost, or more margin would add",
    )
    for name in (
        "customers", "order value", "orders", "acquisition", "margin", "formula", "models",
        "+10 % value", "+10 % orders", "-10 % acquisition", "+10 % margin",
    ):  # fmt: skip
        table.add_column(name, justify="right")
    for dimension, those in found.items():
        label = dimension
        for segment in segment_names(dimension, those):
            of = those[segment]
            table.add_row(
                label,
                segment,
                f"{of.customers:,}",
                money(of.average_order_value),
                f"{of.orders:.2f}",
                money(of.acquisition_cost),
                share(of.profit_margin),
                money(of.formula_value),
                money(of.model_value),
                *map(money, asdict(of.levers).values()),
            )
            label = ""
        table.add_section()
    return table


def _tell(result: float, levers: Levers | None, as_json: bool) -> None:
    more = {} if levers is None else asdict(levers)
    if as_json:
        print_json({"value": result, **({"levers": more} if more else {})}, compact=True)
        return
    names = {name: f"10 % {'less' if name == 'acquisition_cost' else 'more'} "
             f"{name.replace('_', ' ')} adds" for name in more}  # fmt: skip
    rows = [("value", money(result)), *((names[name], money(it)) for name, it in more.items())]
    out().print(pairs(rows, "Customer value"))
