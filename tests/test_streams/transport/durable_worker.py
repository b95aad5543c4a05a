"""A worker whose table keeps a copy on disk; as a program it works until it is killed.

Arguments: bootstrap address, state directory.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import faust

from streams.transport import batch_app
from streams.transport.table import PartitionedTable

PARTITIONS = 2
CHANGELOG = "app-customers-changelog"


def table_app(address: str, state_dir: Path | None) -> tuple[faust.App, PartitionedTable]:
    """An app that stores the value of each record under its key; no value deletes it."""
    app = batch_app(
        "app",
        broker=f"kafka://{address}",
        broker_commit_interval=0.1,
        broker_heartbeat_interval=0.5,
        broker_session_timeout=2,
        broker_max_poll_records=50,
        topic_partitions=PARTITIONS,
        state_dir=state_dir,
    )
    table = app.Table("customers", partitions=PARTITIONS)
    app.in_work = 0  # Batches that the broker has not acknowledged yet.

    async def run(stream: Any) -> None:
        async for event in stream.noack().events():
            batch = event.value
            items = {record.key: record.value for record in batch.records}
            app.in_work += 1
            table.update_partition(batch.tp, items)
            await asyncio.gather(*table.send_items(batch.tp.partition, items))
            app.in_work -= 1
            event.ack()

    app.agent(app.topic("orders"), name="run")(run)
    return app, table


async def main(address: str, state_dir: str) -> None:
    app, table = table_app(address, Path(state_dir))
    app.finalize()
    await app.start()
    while True:
        await asyncio.sleep(0.05)
        print(sum(map(len, table.data.partitions.values())), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
