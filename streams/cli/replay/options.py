"""Arguments and options that the ways of a replay share."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.console import CommandError
from streams.replay.placing import Pace

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="FILE|DATASET|TOPICS",
        help="A recording; a data set or a file of orders; or topics at the broker: all, "
        "inputs, or some as for record.",
    ),
]
Partitions = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Of topics that are made; as recorded, if not given."),
]
Speed = Annotated[
    str, typer.Option(metavar="max|N", help="N times as fast as it was, by the timestamps.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on where an interrupted replay into topics ended.")
]


def parse_speed(text: str) -> Pace:
    """The pace of "max", or of a number of times real time; CommandError."""
    if text == "max":
        return Pace(None)
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise CommandError(f"--speed is {text!r}: write max, or a number above 0, such as 60")
    return Pace(times)
