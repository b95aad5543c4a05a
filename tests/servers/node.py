"""One Kafka node: a `java` process that can be killed, frozen and started again on its data."""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.embedded.process import DIE_WITH_PARENT, HOST, server_environment

from .jars import class_archive, java, kafka_jars

LOWEST_PORT, HIGHEST_PORT = 10_000, 32_000
"""Below the ports that Linux gives to outgoing connections: a dead node's port stays free."""

START_SECONDS = 120.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.1
LOG_TAIL_LINES = 30

JVM = (
    "-Xms96m", "-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
    "-XX:-UsePerfData", "-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true",
)  # fmt: skip

LOG4J = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class KafkaFailed(Exception):
    """A node ended, or did not answer in time; the text has the end of its log."""


_reserved: list[IO[str]] = []
"""Locks of the ports that this process was given, until it ends."""


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nothing listens on, and that no other process was given.

    Several processes of tests start clusters at once, and a node binds its port seconds later.
    """
    folder = Path(tempfile.gettempdir()) / "clv-test-ports"
    folder.mkdir(exist_ok=True)
    dice = random.SystemRandom()  # Hypothesis gives all processes the same ordinary dice.
    ports: list[int] = []
    while len(ports) < count:
        port = dice.randint(LOWEST_PORT, HIGHEST_PORT)
        lock = (folder / str(port)).open("w")
        with contextlib.suppress(OSError), socket.socket() as probe:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            _reserved.append(lock)
            ports.append(port)
            continue
        lock.close()
    return ports


def java_command(main: str, *arguments: str, options: Sequence[str] = ()) -> list[str]:
    """The command line that runs a class of Kafka's."""
    classes = f"{kafka_jars()}/*"
    archive = class_archive()
    if archive.exists():
        options = [f"-XX:SharedArchiveFile={archive}", *options]
    return [java(), *JVM, *options, "-cp", classes, main, *arguments]


class KafkaNode:
    """A broker that is a controller too.

    port: where it listens for clients. plain_port: the listener between brokers, never encrypted
    and never behind a proxy, which tests may use as well.
    """

    def __init__(
        self,
        number: int,
        directory: Path,
        ports: tuple[int, int, int],
        properties: Mapping[str, str],
    ) -> None:
        self.number = number
        self.directory = directory
        self.port, self.plain_port, self.controller_port = ports
        self.properties = dict(properties)
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    @property
    def log(self) -> Path:
        """What the node said, from its first start on: warnings and errors only."""
        return self.directory / "server.log"

    @property
    def data(self) -> Path:
        """Where its partitions are."""
        return self.directory / "data"

    @property
    def pid(self) -> int:
        """Its process id; raises KafkaFailed when it is not running."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether its process lives, frozen or not."""
        return self._process is not None and self._process.poll() is None

    def configuration(self) -> Path:
        """Write what the node is started with."""
        self.directory.mkdir(parents=True, exist_ok=True)
        log4j = self.directory / "log4j2.properties"
        log4j.write_text(LOG4J)
        file = self.directory / "server.properties"
        lines = (f"{name}={value}" for name, value in self.properties.items())
        file.write_text("\n".join(lines) + "\n")
        return file

    async def format(self, cluster_id: str, *arguments: str) -> None:
        """Prepare its storage, which is empty."""
        command = java_command(
            "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id,
            "--config", str(self.configuration()), *arguments,
            options=[f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"],
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=server_environment(),
        )
        said, _ = await process.communicate()
        if process.returncode:
            raise KafkaFailed(f"node {self.number} could not be formatted:\n{said.decode()}")

    def format_like(self, other: KafkaNode) -> None:
        """Prepare its storage as that of another node of its cluster, which has not run yet."""
        self.configuration()
        shutil.copytree(other.data, self.data)
        file = self.data / "meta.properties"
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        own = {"node.id": str(self.number), "directory.id": identity}
        lines = [line.partition("=") for line in file.read_text().splitlines() if "=" in line]
        file.write_text("".join(f"{name}={own.get(name, value)}\n" for name, _, value in lines))

    def launch(self, *options: str) -> None:
        """Start the process, and do not wait for it. options: more of the JVM's."""
        if self.is_running:
            raise KafkaFailed(f"node {self.number} runs already (pid {self.pid})")
        command = java_command(
            "kafka.Kafka",
            str(self.configuration()),
            options=[
                f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}", *options
            ],
        )  # fmt: skip
        # Linux ties the signal to the thread that forks: only the main one lives long enough.
        if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
            tie = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid())]
            command = [*tie, *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self.directory, env=server_environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        atexit.register(self.kill)

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers clients and has joined its cluster."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                status = self._process.returncode if self._process else "not started"
                raise KafkaFailed(f"node {self.number} ended ({status}):\n{self.log_tail()}")
            if _listens(self.port) and await self._is_member():
                return
            await asyncio.sleep(POLL_SECONDS)
        raise KafkaFailed(
            f"node {self.number} did not answer on {HOST}:{self.plain_port} within {seconds:g} s:\n"
            + self.log_tail()
        )

    async def start(self) -> None:
        """Start it on the data and ports it had, and wait until it answers."""
        self.launch()
        await self.ready()

    def kill(self) -> None:
        """End it as a power failure would: SIGKILL."""
        atexit.unregister(self.kill)
        if self._process is None or self._owner != os.getpid():
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    async def terminate(self, seconds: float = STOP_SECONDS) -> None:
        """Shut it down in an orderly way; kill it if that takes longer than `seconds`."""
        if not self.is_running:
            return
        process = self._running()
        process.terminate()
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        self.kill()

    def freeze(self) -> None:
        """Stop it without ending it: its connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._running().send_signal(signal.SIGCONT)

    def log_tail(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return "(no log)"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:]) or "(nothing logged)"

    def remove_data(self) -> None:
        """Lose its disk; it has to be formatted before it starts again."""
        shutil.rmtree(self.data, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise KafkaFailed(f"node {self.number} is not running:\n{self.log_tail()}")
        return self._process

    async def _is_member(self) -> bool:
        admin = AIOKafkaAdminClient(
            bootstrap_servers=f"{HOST}:{self.plain_port}", request_timeout_ms=2_000
        )
        try:
            await admin.start()
            known = (await admin.describe_cluster())["brokers"]
        except KafkaError:
            return False
        finally:
            await admin.close()
        return any(broker["node_id"] == self.number for broker in known)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=0.2):
        return True
    return False
