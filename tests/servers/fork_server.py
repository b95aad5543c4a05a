"""Forks processes from one that has imported the program already.

    python -m tests.servers.fork_server DESCRIPTOR MODULE...

An import of the whole program takes longer than most of what the tests' processes do. DESCRIPTOR
is a Unix socket; the modules are imported at once. A request is a JSON document with three
descriptors, for standard input, output and errors; a process id is answered. Another asks for the
exit status of a process that has ended. The server has one thread and runs nothing else. What it
forks is a process like any other: with a session, memory, descriptors and an end of its own. It is
killed when the server ends: when the process that started it does, and its end of the socket is
closed.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import json
import os
import random
import resource
import runpy
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

MOST_BYTES = 1 << 20
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until the socket is closed; in a forked process, run the module that was asked for."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in sys.argv[2:]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    request = _serve(control)
    if request is None:
        return
    control.close()
    sys.argv = [request["what"], *request["arguments"]]
    # As an interpreter does it: exit statuses and tracebacks are those of `python -m` and `-c`.
    if request["option"] == "-m":
        runpy.run_module(request["what"], run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = "-c"
        exec(compile(request["what"], "<string>", "exec"), {"__name__": "__main__"})


def _serve(control: socket.socket) -> Mapping[str, Any] | None:
    """Answer requests; returns what to run in a forked process, None at the end of the server."""
    while True:
        data, descriptors = _received(control)
        if not data:
            return None
        request = json.loads(data)
        if "status" in request:
            _, status = os.waitpid(request["status"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if answer == 0:
                _become(request, descriptors)
                return request
            for descriptor in descriptors:
                os.close(descriptor)
        control.sendall(json.dumps(answer).encode() + b"\n")


def _received(control: socket.socket) -> tuple[bytes, list[int]]:
    numbers = array.array("i")
    data, ancillary, _, _ = control.recvmsg(MOST_BYTES, socket.CMSG_SPACE(3 * numbers.itemsize))
    for _, _, held in ancillary:
        numbers.frombytes(held)
    return data, list(numbers)


def _become(request: Mapping[str, Any], descriptors: list[int]) -> None:
    """Make the forked process what was asked for."""
    os.setsid()
    _die_with_parent()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(request["environment"])
    # As `python -m` and `python -c` have it: modules are looked for where the process runs.
    sys.path[0] = request["directory"]
    time.tzset()
    if (limit := request["data_limit"]) is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    # Whoever started the tests in the background had this one ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # A new process has dice of its own.
    random.seed()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    main()
