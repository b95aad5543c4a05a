"""`clv contracts`: the JSON Schemas of what the service reads and publishes."""

from __future__ import annotations

from typing import Annotated

import typer

from models.contracts import json_schemas
from models.contracts.dead_letters import headers_schema
from models.contracts.outputs import output_schemas
from streams.cli.console import CommandError, print_json

DEAD_LETTERS = "dead-letter-headers"


def contracts(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[TYPE]", help=f"An event type, such as clv.updated, or {DEAD_LETTERS}."
        ),
    ] = None,
) -> None:
    """Print the JSON Schemas of all events, in and out, by type; or that of one type.

    The schema of the headers of dead letters takes them as an object of texts by name.
    """
    schemas = {**json_schemas(), **output_schemas(), DEAD_LETTERS: headers_schema()}
    if kind is None:
        print_json(schemas)
    elif kind in schemas:
        print_json(schemas[kind])
    else:
        raise CommandError(f"there is no type {kind!r}; there are {', '.join(schemas)}")
