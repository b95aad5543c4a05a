"""A forked process is one like any other: its end, its signals, its streams, its environment."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.servers import forks

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks them")

HOLDS = "import sys, time; print('ready', flush=True); time.sleep(600)"
PYTHON = (sys.executable, "-c")


def program(text: str) -> tuple[str, ...]:
    return (*PYTHON, textwrap.dedent(text))


async def held() -> forks.Forked:
    """A process that runs until somebody ends it."""
    process = await forks.start(*PYTHON, HOLDS, stdout=forks.PIPE)
    assert isinstance(process, forks.Forked)
    assert await process.stdout.readline() == b"ready\n"
    return process


def test_statuses_and_tracebacks_are_those_of_python():
    for text in ("import sys; sys.exit(3)", "1 / 0", "import sys; sys.exit('no')", "print('yes')"):
        command = program(text)
        forked = forks.run(command, timeout=300)
        usual = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert (forked.returncode, forked.stdout) == (usual.returncode, usual.stdout)
        assert forked.stderr.splitlines()[-1:] == usual.stderr.splitlines()[-1:]


def test_a_module_is_run_with_its_arguments():
    done = forks.run([sys.executable, "-m", "streams.cli", "--version"], timeout=300)
    assert (done.returncode, done.stdout.split()[0]) == (0, "clv")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_signal_ends_it_and_is_its_status(number):
    process = await held()
    assert process.returncode is None
    process.send_signal(number)
    assert await asyncio.wait_for(process.wait(), 300) == -number == process.returncode
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_the_others_go_on_when_one_is_killed():
    one, other = await held(), await held()
    one.kill()
    await one.wait()
    assert other.returncode is None
    assert os.getsid(other.pid) == other.pid != os.getsid(os.getpid())
    other.kill()
    # Two wait for the same end.
    assert await asyncio.gather(other.wait(), other.wait()) == [-signal.SIGKILL] * 2


async def test_a_frozen_one_stands_still_until_it_is_thawed():
    process = await held()
    process.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGINT)
    with pytest.raises(TimeoutError):
        process.wait_for(0.2)
    process.send_signal(signal.SIGCONT)
    assert await asyncio.wait_for(process.wait(), 300) == -signal.SIGINT


async def test_what_is_given_and_what_is_said():
    process = await forks.start(
        *program("import sys; print(sys.stdin.read().upper()); print('e', file=sys.stderr)"),
        stdin=forks.PIPE, stdout=forks.PIPE, stderr=forks.PIPE,
    )  # fmt: skip
    assert await process.communicate(b"x" * 200_000) == (b"X" * 200_000 + b"\n", b"e\n")
    assert process.returncode == 0


def test_environment_folder_and_dice_are_its_own(tmp_path):
    text = "import os, random; print(sorted(os.environ), os.getcwd(), random.random())"
    said = [
        forks.run(program(text), timeout=300, cwd=tmp_path, env={"ONE": "1"}).stdout.split()
        for _ in range(2)
    ]
    assert said[0][:2] == ["['ONE']", str(tmp_path)]
    assert said[0][2] != said[1][2]


def test_no_descriptor_of_others_is_open():
    text = "import os; print(sorted(int(d) for d in os.listdir('/proc/self/fd'))[:4])"
    done = forks.run(program(text), timeout=300)
    # The fourth is the folder itself, while it is listed.
    assert done.stdout == "[0, 1, 2, 3]\n"
    text = "import os; print(len(os.listdir('/proc/self/fd')))"
    assert forks.run(program(text), timeout=300).stdout == "4\n"


def test_memory_can_be_limited():
    done = forks.run(program("bytearray(1 << 30)"), timeout=300, data_limit=1 << 29)
    assert done.returncode == 1
    assert "MemoryError" in done.stderr


def test_they_end_with_the_process_that_started_them():
    text = f"""
        import asyncio, os, signal, sys
        from tests.servers import forks

        async def main():
            process = await forks.start(sys.executable, "-c", {HOLDS!r}, stdout=forks.PIPE)
            await process.stdout.readline()
            print(process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    done = subprocess.run(
        program(text), cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    process = Path("/proc") / done.stdout.strip()
    until = time.monotonic() + 300
    while process.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not process.exists()
