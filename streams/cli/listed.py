"""The list of all commands, and how one of them is imported when it is called.

Together their modules take two seconds to import; `clv --help` needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command_from_info, get_group_from_info
from typer.models import CommandInfo, TyperInfo

if TYPE_CHECKING:
    from typer._click import Command, Context


COMMANDS = {
    "demo": (
        "Run the whole service on a data set: broker, Redis, worker, fitter, and what comes out."
    ),
    "worker": "Fold events into customers' values until SIGINT or SIGTERM.",
    "load": "Publish the events of a file or a data set to the broker.",
    "backfill": "Load history into a live system, at the pace of its workers.",
    "tick": "Have all customers valued as of a time; nobody goes back before their last event.",
    "score": "Value every customer of a file or a data set, with no broker.",
    "fit": "Estimate the parameters: orders, order value, contacts, refunds, tiers.",
    "evaluate": (
        "Fit on what was known on a day, and hold what is expected against what happened after it."
    ),
    "fitter": (
        "Refit the parameters on the service's customers, when it is due, until SIGINT or SIGTERM."
    ),
    "serve": "Serve pages for people and an API for programs until SIGINT or SIGTERM.",
    "show": "Show why a customer is worth what they are.",
    "top": "Show the customers of the highest value.",
    "features": "List what a rule of segments may ask for, with units and meanings.",
    "contracts": "Print the JSON Schemas of all events, in and out, by type; or that of one type.",
    "doctor": (
        "Check the installation, the configuration, the broker, its topics, Redis and the model."
    ),
    "accept-loss": (
        "Show what Kafka has lost of what the state rests on, and with --yes go on without it."
    ),
    "erase": "Erase a customer; with --prove say what is left where, and until when.",
    "rebuild-cache": (
        "Make the cache in Redis what is published; safe while workers run, and to repeat."
    ),
    "record": "Record topics as they are now, without a consumer group: nobody notices.",
    "digest": (
        "Digest all customers, their values, and their changes of segment, as they are published."
    ),
    "formula": "Simple formulas of customer value, with their levers.",
    "replay": "Replay events in their order, and say what came of them.",
    "dead-letters": "What was refused, why, and sending it again.",
    "claims": "Which service writes to the output topics and to Redis.",
    "models": "Fitted parameters: in force, earlier, later, and refused; refits.",
    "segments": "Customers by segment, and the rules of segments.",
    "partitions": "The partitions of the topics.",
    "topics": "The topics: names, partitions, replication, retention and compaction.",
}
"""What the list says of each command: the first sentence of its own help."""

_ELSEWHERE = {"top": "show"}
"""Modules that are not called like their command."""


class Commands(TyperGroup):
    """The commands of `COMMANDS`, each of them only a name and a text until it is called."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = {name: TyperCommand(name, help=text) for name, text in COMMANDS.items()}

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        """Return the command that the arguments name, imported."""
        if args[0] in COMMANDS:
            self.load(args[0])
            _keep_quiet()
        return super().resolve_command(ctx, args)

    def load(self, name: str) -> None:
        """Import a command."""
        if type(self.commands[name]) is TyperCommand and self.commands[name].callback is None:
            self.commands[name] = _imported(name)


def module_of(name: str) -> str:
    """Return the module that has a command's function, or its group of commands."""
    return f"streams.cli.{_ELSEWHERE.get(name, name.replace('-', '_'))}"


def _keep_quiet() -> None:
    # What goes wrong is said once, in `main`; the worker opens its own log.
    import logging  # noqa: PLC0415 - the list of commands needs none of it

    from streams.cli.logs import configure_logging  # noqa: PLC0415

    configure_logging(level=logging.CRITICAL)


def _imported(name: str) -> Command:
    found = getattr(import_module(module_of(name)), name.replace("-", "_"))
    if isinstance(found, typer.Typer):
        return get_group_from_info(
            TyperInfo(found, name=name),
            pretty_exceptions_short=False,
            rich_markup_mode=None,
            suggest_commands=True,
        )
    return get_command_from_info(
        CommandInfo(name, callback=found), pretty_exceptions_short=False, rich_markup_mode=None
    )
