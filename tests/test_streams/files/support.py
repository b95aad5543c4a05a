"""Files of orders, and what comes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from models.contracts import Envelope, decode
from streams.files.outgoing import OutgoingEvent
from streams.files.reader import read_orders


def written(path: Path, *lines: str) -> Path:
    """A file with these lines."""
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def accepted(path: Path, **options: Any) -> list[Envelope]:
    """The events of a file, each as the service accepts it."""
    events = read_orders(path, **{"currency": "EUR", **options})
    return [decode(event.key, event.value, event.headers) for event in events]


def documents(events: Iterable[OutgoingEvent]) -> list[dict[str, Any]]:
    """The events as JSON."""
    return [json.loads(event.value) for event in events]
