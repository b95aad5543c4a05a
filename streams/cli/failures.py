"""How a command ends that has failed: one message on stderr, and an exit status."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from redis.exceptions import RedisError

from models.errors import ClvError
from streams.addresses import shown_url, without_logins
from streams.cli.console import fail, say
from streams.cli.running import InterruptedBySignalError
from streams.cli.worker import REFUSALS, describe
from streams.kafka.errors import KafkaError
from streams.text import lines_of, traceback_lines

INTERRUPTED = 130
"""Exit status after SIGINT, as shells have it."""


def end_by(error: KeyboardInterrupt | Exception) -> NoReturn:
    """Say what went wrong, and exit."""
    match error:
        case KeyboardInterrupt() | InterruptedBySignalError():
            say("interrupted")
            sys.exit(INTERRUPTED)
        case ClvError():
            _fail(*lines_of(error))
        case _ if isinstance(error, REFUSALS):
            _fail(f"the broker refuses it: {describe(error)}; docs/security.md lists the ACLs")
        case KafkaError():
            _fail(
                f"the broker cannot be used: {describe(error)}; is it running, and is CLV_BROKER "
                f"({_shown('CLV_BROKER')}) right? `clv doctor` looks closer"
            )
        case RedisError():
            _fail(
                f"Redis cannot be used: {describe(error)}; is it running, and is CLV_REDIS "
                f"({_shown('CLV_REDIS')}) right? `clv doctor` looks closer"
            )
        case BrokenPipeError():
            # Whoever read our output has enough; Python must not complain at its exit either.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        case OSError():
            _fail(str(error))
        case _:
            # A fault of ours: its traceback, but as text.
            say(*traceback_lines(error))
            sys.exit(1)


def _shown(variable: str) -> str:
    return shown_url(os.environ.get(variable, "not set"))


def _fail(*lines: str) -> NoReturn:
    fail(*map(without_logins, lines))
    sys.exit(1)
