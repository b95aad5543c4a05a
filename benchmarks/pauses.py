"""For how long the server of the API answers nobody: `python -m benchmarks pauses`.

CLV_BROKER and CLV_REDIS name a service that runs: `make demo` prints them. The server runs in this
process, and every step of its event loop is timed by the processor that it takes, so that others on
the machine do not count. Meanwhile a client opens what takes longest: cohorts, the overview, and
the customers who are worth most, who have bought most too.
"""

import asyncio
import time
from asyncio import events
from contextlib import contextmanager
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

import aiohttp
import typer
from rich.console import Console
from rich.table import Table

from streams.cli.configuration import load_settings, need_broker
from streams.cli.serve import served
from streams.serving import beside

console = Console(width=120)


class _Steps:
    """The processor's time of the longest step of a loop, and its wall clock's."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.cpu = self.wall = 0.0
        self.number = 0

    @contextmanager
    def timed(self):
        """Time every step of every loop of this thread."""
        run = events.Handle._run  # noqa: SLF001 - there is no hook.

        def timed(handle):
            cpu, wall = time.thread_time(), time.perf_counter()
            run(handle)
            self.cpu = max(self.cpu, time.thread_time() - cpu)
            self.wall = max(self.wall, time.perf_counter() - wall)
            self.number += 1

        events.Handle._run = timed  # noqa: SLF001
        try:
            yield
        finally:
            events.Handle._run = run  # noqa: SLF001


async def _measure(rounds: int) -> None:
    settings = load_settings()
    settings = settings.model_copy(
        update={"serve": settings.serve.model_copy(update={"port": 0, "read_tokens": ()})}
    )
    # Each look sums anew.
    beside.LEAST_AGE, beside.SHARE = 0.0, 1e9  # type: ignore[misc]
    steps = _Steps()
    table = Table("asked for", "times", "longest step, ms of a processor", "ms of the clock")
    with steps.timed():
        async with (
            served(settings, need_broker(settings)) as url,
            aiohttp.ClientSession() as session,
        ):
            customers = await _first(session, url)
            for what, paths in (
                ("a customer", [f"/v1/customers/{each}" for each in customers]),
                ("cohorts", ["/v1/cohorts"]),
                ("due this week", ["/v1/due"]),
                ("overview", ["/"]),
                ("page of a customer", [f"/customers/{each}" for each in customers]),
                ("history", [f"/v1/history/{each}" for each in customers]),
                ("outlook of three years", [f"/v1/outlook/{customers[0]}?days=1095"]),
            ):
                steps.forget()
                for _ in range(rounds):
                    for path in paths:
                        await _read(session, url + path)
                table.add_row(
                    what, f"{rounds * len(paths)}", f"{1e3 * steps.cpu:.1f}",
                    f"{1e3 * steps.wall:.1f}",
                )  # fmt: skip
    console.print(table)


async def _read(session: aiohttp.ClientSession, url: str) -> None:
    """Read an answer; ask again while all customers are still being summed."""
    while True:
        async with session.get(url) as response:
            await response.read()
            if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                response.raise_for_status()
                return


async def _first(session: aiohttp.ClientSession, url: str) -> list[str]:
    """Return the customers who are worth most, once everything is read."""
    while True:
        async with session.get(f"{url}/v1/flows") as response:
            if (await response.json())["counted"] == 1:
                break
        await asyncio.sleep(0.2)
    async with session.get(f"{url}/v1/ranking?limit=10") as response:
        found = (await response.json())["customers"]
    return [quote(each["customer_id"], safe="") for each in found]


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often each is asked for.")] = 3,
) -> None:
    """Measure the longest step of the server's event loop, by what is asked for."""
    asyncio.run(_measure(rounds))
