"""The `clv` command."""

from __future__ import annotations

import io
import logging
import os
import sys
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer
from redis.exceptions import RedisError
from typer.exceptions import TyperException

from models.errors import ClvError
from streams.addresses import shown_url, without_logins
from streams.cli.accept_loss import accept_loss
from streams.cli.backfill import backfill
from streams.cli.claims import claims
from streams.cli.console import fail, out, say
from streams.cli.contracts import contracts
from streams.cli.dead_letters import dead_letters
from streams.cli.demo import demo
from streams.cli.digest import digest
from streams.cli.doctor import doctor
from streams.cli.erase import erase
from streams.cli.evaluate import evaluate
from streams.cli.features import features
from streams.cli.fit import fit
from streams.cli.fitter import fitter
from streams.cli.formula import formula
from streams.cli.load import load
from streams.cli.logs import configure_logging
from streams.cli.models import models
from streams.cli.partitions import partitions
from streams.cli.rebuild_cache import rebuild_cache
from streams.cli.record import record
from streams.cli.replay import replay
from streams.cli.running import InterruptedBySignalError
from streams.cli.score import score
from streams.cli.segments import segments
from streams.cli.serve import serve
from streams.cli.show import show, top
from streams.cli.tick import tick
from streams.cli.topics import topics
from streams.cli.worker import REFUSALS, describe, worker
from streams.kafka.errors import KafkaError
from streams.text import lines_of, traceback_lines, visible
from streams.versions import core

app = typer.Typer(
    name="clv",
    help="Customer lifetime value, kept current by events.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (
    demo,
    worker,
    load,
    backfill,
    tick,
    score,
    fit,
    evaluate,
    fitter,
    serve,
    show,
    top,
    features,
    contracts,
    doctor,
    accept_loss,
    erase,
    rebuild_cache,
    record,
    digest,
):
    app.command()(command)
app.add_typer(formula, name="formula")
app.add_typer(replay, name="replay")
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(claims, name="claims")
app.add_typer(models, name="models")
app.add_typer(segments, name="segments")
app.add_typer(partitions, name="partitions")
app.add_typer(topics, name="topics")


def _print_version(asked: bool) -> None:
    if asked:
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


INTERRUPTED = 130
"""Exit status after SIGINT, as shells have it."""


def main() -> None:
    """Run the command line; errors that are not ours to debug are one message on stderr."""
    # What goes wrong is said once, here; the worker opens its own log.
    configure_logging(level=logging.CRITICAL)
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TyperException as error:
        _fail_by_usage(error)
    except (KeyboardInterrupt, InterruptedBySignalError):
        say("interrupted")
        sys.exit(INTERRUPTED)
    except ClvError as error:
        _fail(*lines_of(error))
    except REFUSALS as error:
        _fail(f"the broker refuses it: {describe(error)}; docs/security.md lists the ACLs")
    except KafkaError as error:
        _fail(
            f"the broker cannot be used: {describe(error)}; is it running, and is CLV_BROKER "
            f"({_shown('CLV_BROKER')}) right? `clv doctor` looks closer"
        )
    except RedisError as error:
        _fail(
            f"Redis cannot be used: {describe(error)}; is it running, and is CLV_REDIS "
            f"({_shown('CLV_REDIS')}) right? `clv doctor` looks closer"
        )
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not complain at its exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(str(error))
    except Exception as error:  # noqa: BLE001 - a fault of ours: its traceback, but as text
        say(*traceback_lines(error))
        sys.exit(1)


def _shown(variable: str) -> str:
    return shown_url(os.environ.get(variable, "not set"))


def _fail(*lines: str) -> NoReturn:
    fail(*map(without_logins, lines))
    sys.exit(1)


def _fail_by_usage(error: TyperException) -> NoReturn:
    told = io.StringIO()
    # Without a command it is the help, whose lines are ours; else it quotes what was given.
    if type(error).__name__ != "NoArgsIsHelpError" and error.message:
        error.message = visible(error.message)
    error.show(file=told)  # type: ignore[attr-defined]
    say(*told.getvalue().removesuffix("\n").split("\n"))
    sys.exit(error.exit_code)
