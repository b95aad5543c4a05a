"""Running the command line, in this process or in one of its own."""

import io
import logging
import os
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
import typer

from streams.cli import main
from tests.servers import forks

ROOT = Path(__file__).parents[2]
command_line = cache(typer.main.get_command)
"""Makes the command line once: that takes longer than most commands."""

CLV = [sys.executable, "-m", "streams.cli"]


def environment(**variables: str | None) -> dict[str, str]:
    """The environment without any configuration of ours but these variables, and an erasure key.

    None takes a variable away.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "CLV_ERASURE_KEY" or not name.startswith("CLV_")
    }
    if "CLV_DATA_DIR" in os.environ:
        kept["CLV_DATA_DIR"] = os.environ["CLV_DATA_DIR"]
    given = {**kept, "PYTHONPATH": str(ROOT), **variables}
    return {name: value for name, value in given.items() if value is not None}


def started(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, as a process of its own.

    The time is there for what hangs: on a busy machine the demo takes minutes.
    """
    return forks.run([*CLV, *map(str, arguments)], timeout=1_200, env=environment(**variables))


def clv(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end in this process, where a start costs nothing.

    What it leaves behind is put back.
    """
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    said, printed = io.StringIO(), io.StringIO()
    try:
        with (
            patch.dict(os.environ, environment(**variables), clear=True),
            patch.object(sys, "argv", ["clv", *map(str, arguments)]),
            patch.object(typer.main, "get_command", command_line),
            redirect_stderr(said),
            redirect_stdout(printed),
            pytest.raises(SystemExit) as ended,
        ):
            main()
    finally:
        root.handlers = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    status = ended.value.code
    assert isinstance(status, int)
    return subprocess.CompletedProcess(arguments, status, printed.getvalue(), said.getvalue())


def refused(*arguments: object, status: int = 1, **variables: str) -> str:
    """What the command says on stderr when it refuses, which is never a traceback."""
    done = clv(*arguments, **variables)
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def until(condition, seconds: float = 60.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)
