"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class TimeUnitName(StrEnum):
    """Unit of the model's parameters."""

    day = "day"
    week = "week"


SourceName = Annotated[
    str,
    typer.Argument(
        metavar="FILE|DATASET",
        help="A file of orders (.csv, .jsonl, .parquet; .gz), or cdnow or online-retail.",
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
Seed = Annotated[int, typer.Option("--seed", help="Seed of the simulation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Log everything, libraries included.")]
