"""Since when a server is away, for pages that say so."""

from __future__ import annotations

from datetime import UTC, datetime


class Outage:
    """Whether a server answers. name: what people call it. since: None while it answers."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.since: datetime | None = None
        self.why = ""

    def failed(self, error: BaseException) -> None:
        """Note that the server did not answer."""
        self.why = type(error).__name__
        if self.since is None:
            self.since = datetime.now(UTC)

    def well(self) -> None:
        """Note that it did."""
        self.since = None
