"""`clv replay`: replay a recording, a data set, a file of orders, or topics."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from streams.cli.replay.compare import compare
from streams.cli.replay.memory import memory
from streams.cli.replay.sandbox import sandbox
from streams.cli.replay.topics import production, topics
from streams.cli.running import command

_FORMER = {
    "--compare": "--settings",
    "--against-parameters": "--parameters",
    "--against-kept": "--snapshot",
}
"""Options that made a comparison before it was a command, and what they are called there."""


class _Replay(TyperGroup):
    """Refuses the options of the former single command, and says what to type instead."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse what names no command, and show the command that is meant."""
        if args and args[0] not in {*self.commands, "--help"}:
            ctx.fail(
                f"say first where to, one of {', '.join(self.commands)}: "
                f"clv replay {shlex.join(_with_command(args))}"
            )
        return super().parse_args(ctx, args)


def _with_command(args: Sequence[str]) -> list[str]:
    """The arguments of the former command, whose options said where to."""
    given = [part for arg in args for part in (arg.split("=", 1) if arg[:2] == "--" else [arg])]
    target = "compare" if _FORMER.keys() & set(given) else "memory"
    if "--into" in given[:-1]:
        at = given.index("--into")
        target = given[at + 1]
        del given[at : at + 2]
    return [target, *(_FORMER.get(arg, arg.replace("--keep", "--snapshot")) for arg in given)]


replay = typer.Typer(
    cls=_Replay,
    help="Replay events in their order, and say what came of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _command in (memory, topics, sandbox, production, compare):
    replay.command()(command(_command))
