"""`clv segments history` and `clv segments show`: rules in force, earlier and later."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from models.calendar import milliseconds
from models.segments import DEFAULT_RULES, Rules
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json, results_to, say
from streams.cli.options import AsJson
from streams.cli.running import command
from streams.cli.segments.service import open_registry
from streams.cli.segments.toml import toml_of
from streams.registry.registry import Registry


@command
async def history(as_json: AsJson = False) -> None:
    """List the rules of all times: in force, earlier and later."""
    settings = load_settings()
    _, _, registry = await open_registry(settings)
    now = datetime.now(UTC)
    listed = [(each, _status(each, registry, now)) for each in registry.rules.published]
    if as_json:
        print_json([{"status": status, **each.model_dump(mode="json")} for each, status in listed])
        return
    if not listed:
        say(f"{settings.topics.models} has no rules yet: the first worker puts its own in force")
        return
    table = Table("version", "status", "holds from", "dimensions")
    for each, status in listed:
        since = "ever" if each.holds_from is None else each.holds_from.isoformat()
        names = ", ".join(dimension.name for dimension in each.dimensions)
        table.add_row(each.version, status, since, names)
    out().print(table)


@command
async def show(
    version: Annotated[
        str | None,
        typer.Argument(
            metavar="[VERSION]", help="As `clv segments history` lists it. Default: those in force."
        ),
    ] = None,
    default: Annotated[
        bool, typer.Option("--default", help="Those of this version of the program; no broker.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print rules as a configuration file has them."""
    if default:
        rules = DEFAULT_RULES
    else:
        settings = load_settings()
        _, _, registry = await open_registry(settings)
        rules = _named(registry, version)
    if as_json:
        print_json(rules.model_dump(mode="json"))
    else:
        with results_to(None) as file:
            file.write(toml_of(rules) + "\n")


def _named(registry: Registry, version: str | None) -> Rules:
    if version is None:
        return registry.rules.at(milliseconds(datetime.now(UTC))) or DEFAULT_RULES
    if (found := registry.rules.by_version.get(version)) is None:
        raise CommandError(
            f"there are no rules {version!r}; `clv segments history` lists those there are"
        )
    return found


def _status(rules: Rules, registry: Registry, now: datetime) -> str:
    if rules is registry.rules.at(milliseconds(now)):
        return "in force"
    return "later" if rules.holds_from is not None and rules.holds_from > now else "earlier"
