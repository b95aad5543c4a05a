"""How soon the read API answers many clients: `python -m benchmarks serving URL`.

The service behind it runs already: `make demo`, or any other. Each client asks for one customer
after another, at times that do not depend on how soon the answers come; the second figure is that
of clients that ask again as soon as they have an answer.
"""

import asyncio
import random
import statistics
from collections.abc import Sequence
from time import perf_counter
from typing import Annotated
from urllib.parse import quote

import aiohttp
import typer
from rich.console import Console

console = Console(width=120)

Latencies = list[float]
"""In seconds."""


async def _measure(url: str, clients: int, rate: float, seconds: float) -> None:
    connections = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connections) as session:
        async with session.get(f"{url}/v1/ranking?limit=500") as response:
            customers = [each["customer_id"] for each in (await response.json())["customers"]]
        paths = [f"{url}/v1/customers/{quote(each, safe='')}" for each in customers]
        for pause in (1 / rate, 0.0):
            began, found = perf_counter(), Latencies()
            await asyncio.gather(
                *(client(session, paths, pause, began + seconds, found) for _ in range(clients))
            )
            _report(found, clients, perf_counter() - began, paced=pause > 0)


async def client(
    session: aiohttp.ClientSession,
    paths: Sequence[str],
    pause: float,
    until: float,
    found: Latencies,
) -> None:
    """Ask for one path after another until a time of `perf_counter`, and note the latencies.

    pause: seconds from one request to the next, however soon answers come; 0: ask at once.
    """
    due = perf_counter() + random.uniform(0, pause)
    while (now := perf_counter()) < until:
        if due > now:
            await asyncio.sleep(due - now)
        began = perf_counter()
        async with session.get(random.choice(paths)) as response:
            response.raise_for_status()
            await response.read()
        found.append(perf_counter() - began)
        due += pause


def percentiles(found: Latencies) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(found), sorted(found)[len(found) * 99 // 100]


def _report(found: Latencies, clients: int, seconds: float, *, paced: bool) -> None:
    middle, late = percentiles(found)
    how = "at their pace" if paced else "one answer after the other"
    console.print(
        f"{clients} clients, {how}: {len(found) / seconds:,.0f} answers a second, "
        f"median {1e3 * middle:.1f} ms, 99th percentile {1e3 * late:.1f} ms"
    )


def main(
    url: Annotated[str, typer.Argument(help="Address of `clv serve`.")] = "http://127.0.0.1:8090",
    clients: Annotated[int, typer.Option(min=1)] = 50,
    rate: Annotated[float, typer.Option(min=0.01, help="Requests of a client a second.")] = 4.0,
    seconds: Annotated[float, typer.Option(min=1)] = 10.0,
) -> None:
    """Measure how soon customers are answered."""
    asyncio.run(_measure(url.rstrip("/"), clients, rate, seconds))
