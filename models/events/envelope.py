"""The CloudEvents 1.0 envelope of each event type."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, TypeAdapter, create_model

from models.events.fields import Allowed, Contract, Id, Time
from models.events.kinds import CHANGED, EVENTS, EventType

JsonMediaType = Annotated[
    str,
    StringConstraints(
        strict=True, pattern=r"^[A-Za-z]+/([A-Za-z0-9.-]+\+)?[Jj][Ss][Oo][Nn]\s*(;.*)?$"
    ),
    Allowed("a JSON media type such as application/json"),
]


class Envelope(Contract):
    """What every event has: who says what, under which id.

    `(source, id)` identifies the event; `type` is a key of `EVENT_TYPES` and decides `data`.
    """

    specversion: Literal["1.0"]
    id: Id
    source: Id
    type: str
    time: Time | None = None
    subject: str | None = None
    datacontenttype: JsonMediaType | None = None
    data: Any
    """An `EventData`, precisely typed in each subclass."""


ENVELOPES: Final[dict[str, type[Envelope]]] = {}
"""The envelope of each event type, by the type's name."""


class _AnyEvent:
    """Reads and writes any event as structured JSON."""

    adapter: TypeAdapter[Envelope]
    """Of all registered envelopes."""

    def validate_json(self, data: bytes | str) -> Envelope:
        """Parse an event from JSON; raises pydantic's ValidationError."""
        return self.adapter.validate_json(data)

    def validate_python(self, data: Any) -> Envelope:
        """Validate an event of Python objects; raises pydantic's ValidationError."""
        return self.adapter.validate_python(data)

    def dump_json(self, event: Envelope) -> bytes:
        """Return the event as JSON."""
        return self.adapter.dump_json(event)


EVENT: Final = _AnyEvent()
"""Any event of a registered type."""


def _build() -> None:
    ENVELOPES.clear()
    for name, event_type in EVENTS.items():
        ENVELOPES[name] = _envelope(name, event_type)
    union: Any = reduce(or_, ENVELOPES.values())
    EVENT.adapter = TypeAdapter(Annotated[union, Field(discriminator="type")])


def _envelope(name: str, event_type: EventType) -> type[Envelope]:
    title = "".join(word.capitalize() for word in name.split("."))
    return create_model(
        f"{title}Event",
        __base__=Envelope,
        __doc__=f"Envelope of `{name}`.",
        __module__=__name__,
        type=(Literal[name], ...),
        data=(event_type.data, ...),
    )


_build()
CHANGED.append(_build)


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (draft 2020-12) of each event type, envelope and data together.

    `decode` also checks what JSON Schema cannot express: a score lies within its scale, a scale's
    min is less than its max, a merge has two different customers, times are within their range.
    """
    return {name: envelope.model_json_schema() for name, envelope in ENVELOPES.items()}
