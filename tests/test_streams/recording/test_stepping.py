"""Event by event, at a terminal."""

import os
import pty
import signal
import subprocess

from tests.test_streams.commands import CLV, environment


def test_ctrl_c_ends_it_while_it_waits_for_enter(recording):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*CLV, "replay", "memory", str(recording), "--step"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as stepping:
        try:
            shown = stepping.stdout.readline()
            stepping.send_signal(signal.SIGINT)
            _, said = stepping.communicate(timeout=120)
        finally:
            stepping.kill()
            os.close(ours)
            os.close(theirs)
    assert "[0]@0" in shown
    assert stepping.returncode == 130
    assert "interrupted" in said
