"""`clv segments`: customers by segment, and the rules that say who is in which.

`current.py`: customers by segment, now or later. `changing.py`: what other rules would change, and
putting them in force. `published.py`: rules in force and earlier. `snapshot.py`: all memberships,
for a new subscriber. `evaluate.py`: how right rules are, on a file. `toml.py`: rules as a
configuration file has them.
"""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.options import AsJson
from streams.cli.segments.changing import apply, diff
from streams.cli.segments.current import show_later, show_now
from streams.cli.segments.evaluate import evaluate
from streams.cli.segments.published import history, show
from streams.cli.segments.snapshot import snapshot

segments = typer.Typer(
    help="Customers by segment, and the rules of segments.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@segments.callback()
def current(
    context: typer.Context,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="As of this later time, if nothing happens until then; reads the changelog.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show customers and value by segment, for every dimension."""
    if context.invoked_subcommand is not None:
        return
    if as_of is None:
        show_now(as_json=as_json)
    else:
        show_later(as_of, as_json=as_json)


for command in (diff, apply, history, show, snapshot, evaluate):
    segments.command()(command)
