"""The schema: records reach the agent as they are, so that none is lost to a decoding error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import faust
from faust.types import AppT, EventT, Message


class RawSchema(faust.Schema):  # type: ignore[misc]
    """Gives the agent the record batch untouched; decoding is the agent's own business."""

    def compile(self, app: AppT, **_callbacks: Any) -> Callable[..., Awaitable[EventT]]:
        """The function Faust calls with every message."""
        create_event = app.create_event

        async def decode(message: Message, *, propagate: bool = False) -> EventT:  # noqa: ARG001
            return create_event(None, message.value, message.headers, message)

        return decode
