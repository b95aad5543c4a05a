"""`clv segments snapshot`: everybody's segments, from which a new subscriber begins."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from models.documents import moment
from streams.cli.configuration import load_settings
from streams.cli.console import results_to, say
from streams.cli.running import command
from streams.cli.segments.service import open_registry, open_service
from streams.kafka.partitions import partitions_of
from streams.kafka.reading import log_bounds
from streams.text import json_text


@command
async def snapshot(
    output: Annotated[
        Path | None, typer.Option(help="Write to this file instead of stdout.")
    ] = None,
) -> None:
    """Write every customer's segments as JSON lines, for a subscriber that begins now.

    The first line says from which offsets to read the segment changes afterwards.
    """
    settings = load_settings()
    broker, partitions, _ = await open_registry(settings)
    topic = settings.topics.segment_changes
    # Before the states are read: a change may then be in both, but in none of them never.
    ends = await log_bounds(broker, partitions_of({topic: partitions}))
    service = await open_service(settings)
    now = datetime.now(UTC)
    head = {
        "snapshot": "clv.segments",
        "taken_at": now.isoformat(),
        "rules": service.rules_at(now).version,
        "currency": settings.economics.currency,
        "continue": {
            "topic": topic,
            "offsets": {str(tp.partition): at.end for tp, at in sorted(ends.items())},
        },
    }
    written = 0
    with results_to(output) as file:
        file.write(json_text(head) + "\n")
        for key, record in service.customers():
            line: dict[str, Any] = {
                "customer_id": key.decode(),
                "version": record.version,
                "as_of": moment(record.as_of).isoformat(),
                "clv": record.clv,
                "segments": record.segments,
                "since": {name: moment(at).isoformat() for name, at in record.since.items()},
            }
            file.write(json_text(line) + "\n")
            written += 1
    say(f"{written:,} customers; read {topic} on from the offsets in the first line")
