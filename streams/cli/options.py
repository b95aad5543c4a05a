"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from streams.files.shops import SHOPS


def group(about: str) -> typer.Typer:
    """A command that has commands."""
    made = typer.Typer(help=about, no_args_is_help=True, rich_markup_mode=None)

    @made.callback()
    def _named() -> None:
        """Have a single command keep its name."""

    return made


SourceName = Annotated[
    str,
    typer.Argument(
        metavar="FILE|DATASET",
        help="A file of orders (.csv, .jsonl, .parquet; .gz), or cdnow or online-retail.",
    ),
]
PopulationName = Annotated[
    str | None,
    typer.Argument(
        metavar="[FILE|DATASET]",
        help="A file of orders (.csv, .jsonl, .parquet; .gz), a recording, or cdnow or "
        "online-retail.",
    ),
]
FromTopics = Annotated[
    bool,
    typer.Option(
        "--topics", help="Instead: the customers of the service, from its changelog at the broker."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="OUR=THEIRS",
        help="Which header of the file holds our field; repeat, or separate by commas.",
    ),
]
CurrencyName = Annotated[
    str | None,
    typer.Option("--currency", metavar="CODE", help="Currency of rows that name none, ISO 4217."),
]
Timezone = Annotated[
    str | None,
    typer.Option("--timezone", metavar="NAME", help="The shop's time zone, such as Europe/Berlin."),
]
OrderSource = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="URI",
        help="CloudEvents source of the orders, one for each shop: it scopes order ids.",
    ),
]
LineItems = Annotated[
    bool,
    typer.Option(
        "--line-items",
        help="Rows are line items: sum those of one order, wherever in the file they are.",
    ),
]
ShopName = Annotated[
    str | None,
    typer.Option(
        "--shop", metavar="NAME", help=f"The file is an export as it is, of {', '.join(SHOPS)}."
    ),
]
Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS=MEANING",
        help="What a status in the file means: paid, refunded, cancelled or unpaid. Repeat.",
    ),
]
IgnoreStatus = Annotated[
    bool, typer.Option("--ignore-status", help="Count every row, whatever its status.")
]
DecimalSign = Annotated[
    Literal["point", "comma"],
    typer.Option("--decimal", help="How amounts are written: 1234.50, or 1234,50 and 1.234,50."),
]
KeepGoing = Annotated[
    bool,
    typer.Option(
        "--keep-going",
        help="Pass rows that make no event on, to be refused and counted, instead of stopping.",
    ),
]
Simulated = Annotated[
    bool,
    typer.Option(
        "--simulated/--no-simulated",
        help="Add simulated support, refunds, cancellations and acquisition costs to a data set.",
    ),
]
InSample = Annotated[
    bool, typer.Option("--in-sample", help="cdnow: only the papers' 2,357 customers.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the simulation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log everything, libraries included.")]
