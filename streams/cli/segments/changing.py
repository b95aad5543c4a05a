"""`clv segments diff` and `clv segments apply`: what other rules would change, and the change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from models.aggregate.record import Cause
from models.calendar import milliseconds
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from models.segments import Rules
from models.whatif import Move, flows, moves
from streams.cli.configuration import load_settings, settings_of_file
from streams.cli.console import CommandError, on_terminal, out, print_json, say
from streams.cli.options import AsJson
from streams.cli.parameters_file import read_parameters
from streams.cli.running import command
from streams.cli.segments.service import Service, open_service
from streams.cli.tables import money
from streams.publisher import Publisher
from streams.rules import publish_rules
from streams.settings import Settings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="A configuration file with rules. Default: the service's own configuration.",
    ),
]


@command
async def diff(
    config: Config = None,
    parameters: Annotated[
        Path | None,
        typer.Option(help="Instead of rules: parameters, as `clv fit --output` writes them."),
    ] = None,
    customers: Annotated[
        bool, typer.Option("--customers", help="List every change, not their numbers alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show who would change segments under other rules or parameters; nothing is published."""
    if config is not None and parameters is not None:
        raise typer.BadParameter("give --config or --parameters, not both")
    settings = load_settings()
    rules, fitted = None, None
    if parameters is None:
        rules = _wanted(settings, config)
    else:
        fitted = read_parameters(parameters, settings.economics.currency)
    service, now = await open_service(settings), datetime.now(UTC)
    moved = _moves(service, rules, fitted, now)
    if as_json:
        print_json(_document(moved, service, now))
        return
    _show(moved, service, now)
    if customers:
        for each in moved:
            before = each.previous or "-"
            out().print(f"{each.customer_id}: {each.dimension}, from {before}: {each.text}")


@command
async def apply(
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put rules in force from now on; each change they make is published, with cause rules.

    Rules that are in force already are not published again, but all customers are scored again.
    """
    settings = load_settings()
    rules = _wanted(settings, config)
    service, now = await open_service(settings), datetime.now(UTC)
    current = service.rules_at(now)
    again = current.dimensions == rules.dimensions
    moved = _moves(service, rules, None, now)
    if not as_json:
        _show(moved, service, now)
    if not yes:
        if not on_terminal():
            raise CommandError("nobody is there to be asked: add --yes, or see `clv segments diff`")
        if not typer.confirm("Put these rules in force, and publish the changes?", err=True):
            raise CommandError("nothing was changed")
    if again:
        rules = current
    else:
        rules = await publish_rules(settings, service.broker, rules, now)
    async with Publisher(service.broker, settings.topics, service.partitions) as publisher:
        await publisher.tick(Tick(as_of=now, rules=rules.version))
    if as_json:
        print_json(
            {"version": rules.version, "published": not again, **_document(moved, service, now)}
        )
    else:
        how = "were in force already" if again else f"are in force from {now.isoformat()}"
        say(f"rules {rules.version} {how}; all customers are scored again")


def _wanted(settings: Settings, config: Path | None) -> Rules:
    wanted = settings if config is None else settings_of_file(config)
    if wanted.dimensions is None:
        where = f"{config} has" if config is not None else "the configuration has"
        raise CommandError(
            f"{where} no [[dimensions]]; print those in force by `clv segments show`, change them, "
            "and give the file by --config"
        )
    return wanted.rules


def _moves(
    service: Service, rules: Rules | None, parameters: Parameters | None, now: datetime
) -> Sequence[Move]:
    """Return the changes that a tick as of now would publish under the rules or parameters."""
    cause: Cause = "rules" if parameters is None else "model"
    context = service.context(rules, parameters)
    return list(moves(service.states, context, as_of=milliseconds(now), cause=cause))


def _by_time(service: Service, now: datetime) -> int:
    """Return how many changes a tick as of now would publish without any other rules."""
    as_of = milliseconds(now)
    return sum(1 for _ in moves(service.states, service.context(), as_of=as_of, cause="time"))


def _show(moved: Sequence[Move], service: Service, now: datetime) -> None:
    currency = service.settings.economics.currency
    table = Table("dimension", "from", "to", title="Changes")
    table.add_column("customers", justify="right")
    table.add_column(f"value {currency}", justify="right")
    for each in flows(moved):
        table.add_row(
            each.dimension,
            each.previous or "-",
            each.current or "-",
            f"{each.customers:,}",
            money(each.value),
        )
    out().print(table)
    changed = len({each.customer_id for each in moved})
    say(
        f"{changed:,} of {_count(service):,} customers would change, {len(moved):,} segments "
        f"altogether; under the rules and parameters in force, {_by_time(service, now):,} segments "
        "would change by now, because time has passed"
    )


def _document(moved: Sequence[Move], service: Service, now: datetime) -> dict[str, Any]:
    return {
        "as_of": now.isoformat(),
        "customers": _count(service),
        "by_time": _by_time(service, now),
        "flows": [each._asdict() for each in flows(moved)],
        "changes": [each._asdict() for each in moved],
    }


def _count(service: Service) -> int:
    return sum(1 for _ in service.customers())
