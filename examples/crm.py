"""A CRM that follows the segments of its customers: needs aiokafka and nothing of CLV Streams.

python examples/crm.py localhost:9092 crm.db
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from typing import Any

from aiokafka import AIOKafkaConsumer

TOPIC = "clv.segment-changes"
GROUP = "crm"

TABLES = """
    CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY);
    CREATE TABLE IF NOT EXISTS segments (
        customer TEXT, dimension TEXT, segment TEXT, PRIMARY KEY (customer, dimension)
    );
    CREATE TABLE IF NOT EXISTS campaigns (id TEXT PRIMARY KEY, customer TEXT, name TEXT);
"""

CAMPAIGNS = {("lifecycle", "new"): "welcome", ("lifecycle", "at risk"): "we miss you"}


class Crm:
    """The CRM's own state: segments as told, and a campaign for each change that asks for one."""

    def __init__(self, path: str = ":memory:") -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(TABLES)

    def take(self, value: bytes) -> bool:
        """Take one event; says whether it was new.

        The service tells each change at least once, and always under the same id. Id and effect are
        written in one transaction, so that a crash in between repeats both or neither.
        """
        event = json.loads(value)
        with self._database:
            seen = self._database.execute("INSERT OR IGNORE INTO seen VALUES (?)", [event["id"]])
            if seen.rowcount == 0:
                return False
            if event["type"] == "clv.segment-changed":
                self._changed(event["id"], event["data"])
            elif event["type"] == "clv.customer-removed":
                self._removed(event["data"]["customer_id"])
        return True

    def segments(self, customer: str) -> dict[str, str]:
        """A customer's segments by dimension."""
        rows = self._database.execute(
            "SELECT dimension, segment FROM segments WHERE customer = ?", [customer]
        )
        return dict(rows.fetchall())

    def campaigns(self, customer: str) -> list[str]:
        """The campaigns that a customer is in, in the order in which they began."""
        rows = self._database.execute(
            "SELECT name FROM campaigns WHERE customer = ? ORDER BY rowid", [customer]
        )
        return [name for (name,) in rows]

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _changed(self, event_id: str, change: dict[str, Any]) -> None:
        customer, dimension, segment = (
            change["customer_id"],
            change["dimension"],
            change["current"],
        )
        self._database.execute(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?)", [customer, dimension, segment]
        )
        if campaign := CAMPAIGNS.get((dimension, segment)):
            self._database.execute(
                "INSERT INTO campaigns VALUES (?, ?, ?)", [event_id, customer, campaign]
            )

    def _removed(self, customer: str) -> None:
        for table in ("segments", "campaigns"):
            self._database.execute(f"DELETE FROM {table} WHERE customer = ?", [customer])  # noqa: S608


async def follow(servers: str, crm: Crm) -> None:
    """Take all changes, for ever; offsets are committed after the CRM has them."""
    consumer = AIOKafkaConsumer(
        TOPIC,
        bootstrap_servers=servers,
        group_id=GROUP,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        while True:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    crm.take(record.value)
            await consumer.commit()
    finally:
        await consumer.stop()


if __name__ == "__main__":
    with closing(Crm(sys.argv[2])) as opened:
        asyncio.run(follow(sys.argv[1], opened))
