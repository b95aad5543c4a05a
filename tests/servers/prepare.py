"""Fetches Apache Kafka for the tests, and keeps its classes so that a node starts in half the time.

    python -m tests.servers.prepare

Where Java or Maven is missing it says so and does nothing.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from .jars import class_archive, kafka_jars, kafka_missing_reason
from .kafka import KafkaCluster

_END_SECONDS = 120.0


async def keep_classes() -> None:
    """Start a node, end it in an orderly way, and keep what classes it had."""
    archive = class_archive()
    with tempfile.TemporaryDirectory(prefix="clv-kafka-") as directory:
        draft = archive.with_name(f"{archive.name}.{os.getpid()}")
        cluster = KafkaCluster(1, Path(directory))
        [node] = cluster.nodes
        try:
            await node.format(cluster.cluster_id)
            node.launch(f"-XX:ArchiveClassesAtExit={draft}")
            await node.ready()
            await node.terminate(_END_SECONDS)
        finally:
            cluster.kill()
        if draft.exists():
            draft.rename(archive)


def main() -> None:
    """Do what has not been done yet."""
    if reason := kafka_missing_reason():
        print(f"{reason}; the tests on Apache Kafka are skipped")
        return
    kafka_jars()
    if not class_archive().exists():
        asyncio.run(keep_classes())


if __name__ == "__main__":
    main()
