"""Many customers, several workers, a kill, merges and erasures: prints every record of the broker.

python -m tests.test_testing.scenario
"""

import asyncio
import sys

import structlog

from streams.testing import running_topology


async def scenario() -> None:
    async with running_topology(workers=3) as topology:
        for number in range(30):
            await topology.orders.placed(f"c{number}", total=10 + number, at="2026-01-03")
        await topology.kill_worker(topology.workers[0])
        for number in range(0, 30, 2):
            await topology.customers.merged(f"c{number}", f"c{number + 1}", at="2026-02-01")
        await topology.support.opened("c1", channel="phone", at="2026-02-03")
        await topology.start_worker()
        await topology.customers.erased("c4", at="2026-03-01")
        await topology.orders.placed("c5", "12.50", at="2026-02-01")
        await topology.advance(days=200)
        await topology.stop_worker()
        await topology.orders.placed("c6", "12.50 USD")
        await topology.settled()
        for tp in sorted(topology.broker.logs):
            for record in topology.broker.logs[tp]:
                print(record)
        print(await topology.cache.top(50))


if __name__ == "__main__":
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(40),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(scenario())
