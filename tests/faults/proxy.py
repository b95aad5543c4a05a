"""A TCP proxy that can fail: what stands between a client and a server, and breaks on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from typing import Self

from tests.servers.node import free_ports

HOST = "127.0.0.1"
CHUNK = 64 * 1024
WAITING = 256
"""Chunks that may be under way in one direction before the sender has to wait."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Condition:
    """How the line is now.

    delay: seconds each chunk takes longer. rate: bytes per second and direction; none: no limit.
    """

    dropping: bool = False
    delay: float = 0.0
    rate: float | None = None


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to another port; an async context manager.

    While it drops, bytes are held back and not thrown away: on a real line that comes back TCP
    sends them again, so that a request can arrive long after its sender gave it up.
    """

    def __init__(self, target: int, *, port: int = 0) -> None:
        self.target = target
        # Not one of those given to outgoing connections: refused, it could not listen again.
        [self.port] = [port] if port else free_ports(1)
        self._condition = Condition()
        self._clear = asyncio.Event()
        self._clear.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._stop_listening()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    async def heal(self) -> None:
        """Pass everything on again, and listen again if connections were refused."""
        self._set(Condition())
        if self._server is None:
            await self._listen()

    def drop(self) -> None:
        """Let nothing through in either direction; connections stay open."""
        self._set(Condition(dropping=True))

    def delay(self, seconds: float) -> None:
        """Let everything arrive later, in each direction."""
        self._set(Condition(delay=seconds))

    def throttle(self, bytes_per_second: float) -> None:
        """Let only so much through in each direction of each connection."""
        self._set(Condition(rate=bytes_per_second))

    def reset(self) -> None:
        """End all open connections with a reset; new ones are taken."""
        for writer in list(self._writers):
            _abort(writer)

    def refuse(self) -> None:
        """End all open connections, and refuse new ones."""
        self._stop_listening()
        self.reset()

    def _set(self, condition: Condition) -> None:
        self._condition = condition
        if condition.dropping:
            self._clear.clear()
        else:
            self._clear.set()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, limit=CHUNK)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        onward: asyncio.StreamWriter | None = None
        try:
            await self._clear.wait()
            answers, onward = await asyncio.open_connection(HOST, self.target, limit=CHUNK)
            self._writers.add(onward)
            directions = {
                asyncio.create_task(self._pass(reader, onward)),
                asyncio.create_task(self._pass(answers, writer)),
            }
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in directions:
                    task.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
        except OSError:
            # The server is down: its client sees the connection end at once, as without a proxy.
            pass
        finally:
            for end in (writer, onward):
                if end is not None:
                    self._writers.discard(end)
                    end.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one direction on, until its sender closes or either end fails."""
        chunks: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(WAITING)
        delivering = asyncio.create_task(self._deliver(chunks, writer))
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(CHUNK):
                    await chunks.put((loop.time(), data))
            await chunks.put((loop.time(), b""))
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(
        self, chunks: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                came, data = await chunks.get()
                await self._clear.wait()
                # The delay of now: a line that is quick again is so for what is under way, too.
                if (wait := came + self._condition.delay - loop.time()) > 0:
                    await asyncio.sleep(wait)
                if not data:
                    return
                if self._condition.rate is not None:
                    await asyncio.sleep(len(data) / self._condition.rate)
                writer.write(data)
                await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    endpoint: socket.socket | None = writer.get_extra_info("socket")
    if endpoint is not None:
        with contextlib.suppress(OSError):
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
