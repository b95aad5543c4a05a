"""The `clv` command."""

from __future__ import annotations

import io
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

from streams.cli.listed import Commands

app = typer.Typer(
    name="clv",
    cls=Commands,
    help="Customer lifetime value, kept current by events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        from streams.cli.console import out  # noqa: PLC0415
        from streams.versions import core  # noqa: PLC0415

        out().print(f"clv {version('clv-streams')}, core {core()}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Customer lifetime value, kept current by events."""


def main() -> None:
    """Run the command line; errors that are not ours to debug are one message on stderr."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TyperException as error:
        _fail_by_usage(error)
    except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - each becomes a message
        from streams.cli.failures import end_by  # noqa: PLC0415 - it imports the clients

        end_by(error)


def _fail_by_usage(error: TyperException) -> NoReturn:
    from streams.cli.console import say  # noqa: PLC0415 - only here
    from streams.text import visible  # noqa: PLC0415

    told = io.StringIO()
    # Without a command it is the help, whose lines are ours; else it quotes what was given.
    if type(error).__name__ != "NoArgsIsHelpError" and error.message:
        error.message = visible(error.message)
    error.show(file=told)  # type: ignore[attr-defined]
    say(*told.getvalue().removesuffix("\n").split("\n"))
    sys.exit(error.exit_code)
