"""Decode Kafka records into events, or refuse them in words that the publisher can act on."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NoReturn

from pydantic import TypeAdapter, ValidationError

from models.errors import ClvError
from models.events.envelope import ENVELOPES, EVENT, Envelope
from models.events.fields import Id
from models.events.kinds import CHANGED, EVENT_TYPES

MAX_VALUE_BYTES = 1_048_576
MAX_HEADERS = 1_000

_STRUCTURED_PREFIX = b"application/cloudevents"
_STRUCTURED = frozenset({_STRUCTURED_PREFIX, b"application/cloudevents+json"})
_USUAL = frozenset({*_STRUCTURED, b"application/cloudevents+json; charset=utf-8"})
_BATCH = b"application/cloudevents-batch"
_ATTRIBUTES = ("specversion", "id", "source", "type", "time", "subject")

_SHOWN_CHARACTERS = 80
_EVENT_SHAPE = "a JSON object with specversion, id, source, type and data"

_id_from_text = TypeAdapter(Id).validator.validate_python


class _Readers:
    """Validators of events, and of their data, by type."""

    event: Callable[[bytes], Envelope]
    data: Mapping[str, Callable[[bytes], Any]]
    attributes: Mapping[str, Callable[[Any], Envelope]]

    @classmethod
    def build(cls) -> None:
        """Build the validators of all registered types."""
        cls.event = EVENT.adapter.validator.validate_json
        cls.data = {
            name: model.__pydantic_validator__.validate_json for name, model in EVENT_TYPES.items()
        }
        cls.attributes = {
            name: model.__pydantic_validator__.validate_python for name, model in ENVELOPES.items()
        }


_Readers.build()
CHANGED.append(_Readers.build)


class Reason(StrEnum):
    """Why a record was refused; the codes are stable."""

    EMPTY = "empty"
    """No value: a tombstone means nothing on an input topic."""
    TOO_LARGE = "too-large"
    NOT_CLOUDEVENTS = "not-cloudevents"
    """Neither a structured nor a binary CloudEvent."""
    BATCH = "batch"
    """Several events in one record."""
    UNSUPPORTED_FORMAT = "unsupported-format"
    """A CloudEvent in another format than JSON."""
    NOT_UTF8 = "not-utf8"
    NOT_JSON = "not-json"
    UNKNOWN_TYPE = "unknown-type"
    MISSING_FIELD = "missing-field"
    INVALID_FIELD = "invalid-field"
    MISSING_CUSTOMER = "missing-customer"
    """Neither the data nor the key says whose event it is."""
    PLACEHOLDER_ID = "placeholder-id"
    """An id such as "null" or "guest", which stands for a missing one."""
    FUTURE = "future"
    """It claims to have happened well after it arrived."""
    NO_EXCHANGE_RATE = "no-exchange-rate"
    """A currency that cannot be converted to the shop's."""
    WRONG_TOPIC = "wrong-topic"
    """An event of a type that this topic does not take."""
    BEYOND_MEMORY = "beyond-memory"
    """At or before the compaction boundary: it may be a duplicate."""
    POISON = "poison"
    """The engine raised an error on it, twice: a defect of the service, not of the publisher."""
    AMBIGUOUS = "ambiguous"
    """A notice: said twice at the same time, with other content."""
    REFUND_BEYOND_TOTAL = "refund-beyond-total"
    """A notice: refunds of an order exceed its total."""


NOTICES: Final = frozenset({Reason.AMBIGUOUS, Reason.REFUND_BEYOND_TOTAL})
"""Reasons of notices: nothing was refused, but the publisher should look at the event."""


class Refused(ClvError):
    """A record cannot be accepted; its publisher has to correct it and send it again.

    With one of `NOTICES` as its reason, it is not raised: it goes with an accepted record.

    field: a path such as `data.total`, a header such as `ce_id`, `key`, or None if the record is
    refused as a whole. detail: what was seen and what is allowed.
    """

    def __init__(self, reason: Reason, field: str | None, detail: str) -> None:
        super().__init__(reason, field, detail)
        self.reason = reason
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


def decode(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    *,
    max_bytes: int = MAX_VALUE_BYTES,
) -> Envelope:
    """Return the event in a Kafka record, in structured or binary mode.

    It is structured if the header `content-type` starts with `application/cloudevents`, or if there
    are neither `ce_` headers nor a content type; otherwise it is binary. Header names are
    case-insensitive; the last header of a name counts. An event returned here has a customer:
    `customer_of` with the same key does not refuse it.

    Raises `Refused`, and nothing else, on any input.

    Source: CloudEvents 1.0, Kafka protocol binding, sections 3.1 to 3.3.
    """
    if len(headers) > MAX_HEADERS:
        raise Refused(
            Reason.TOO_LARGE,
            None,
            f"the record has {len(headers)} headers; allowed: at most {MAX_HEADERS}",
        )
    if not value:
        raise Refused(Reason.EMPTY, None, "the record has no value; send a CloudEvent in JSON")
    if len(value) > max_bytes:
        raise Refused(
            Reason.TOO_LARGE,
            None,
            f"the value has {len(value)} bytes; allowed: at most {max_bytes}, uncompressed",
        )
    content_type, attributes = _cloudevent_headers(headers)
    event: Envelope
    if _is_structured(content_type, attributes):
        try:
            event = _Readers.event(value)
        except ValidationError as error:
            _refuse_value(value, error, _structured_field)
    else:
        event = _binary(attributes, content_type, value)
    if event.data.customer_id is None:
        customer_of(event, key)
    return event


def is_structured(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Return whether `decode` uses structured mode for these headers; raises `Refused`."""
    return _is_structured(*_cloudevent_headers(headers))


def customer_of(event: Envelope, key: bytes | None) -> str:
    """Return the event's customer id: `data.customer_id`, or else the record's key as UTF-8.

    Raises `Refused` if there is neither, or the key is not UTF-8 or not an `Id`.
    """
    known: str | None = event.data.customer_id
    return key_as_customer(key) if known is None else known


def key_as_customer(key: bytes | None) -> str:
    """Return a record's key as a customer id.

    Raises `Refused` if there is no key, or it is not UTF-8 or not an `Id`.
    """
    if not key:
        raise Refused(
            Reason.MISSING_CUSTOMER,
            "data.customer_id",
            "neither data.customer_id nor the record's key says whose event it is; set one",
        )
    customer: str
    try:
        customer = _id_from_text(key.decode())
    except UnicodeDecodeError:
        raise Refused(
            Reason.NOT_UTF8, "key", f"the key is {_shown(key)}; allowed: a customer id in UTF-8"
        ) from None
    except ValidationError as error:
        allowed = error.errors(include_url=False)[0]["msg"]
        raise Refused(
            Reason.INVALID_FIELD, "key", f"the key is {_shown(key)}; allowed: {allowed}"
        ) from None
    return customer


def _cloudevent_headers(
    headers: Sequence[tuple[str, bytes | None]],
) -> tuple[bytes | None, dict[str, bytes]]:
    """Return the content type, and the attributes of the `ce_` headers without their prefix."""
    content_type: bytes | None = None
    attributes: dict[str, bytes] = {}
    for name, content in headers:
        if content is None:
            continue
        folded = name.lower()
        if folded == "content-type":
            content_type = content
        elif folded.startswith("ce_"):
            attributes[folded[3:]] = content
    return content_type, attributes


def _is_structured(content_type: bytes | None, attributes: dict[str, bytes]) -> bool:
    if content_type in _USUAL:
        return True
    if content_type is None:
        return not attributes
    media_type = content_type.lower()
    if not media_type.startswith(_STRUCTURED_PREFIX):
        return False
    if media_type.partition(b";")[0].rstrip() not in _STRUCTURED:
        _refuse_format(media_type)
    return True


def _binary(attributes: dict[str, bytes], content_type: bytes | None, value: bytes) -> Envelope:
    if not attributes:
        raise Refused(
            Reason.NOT_CLOUDEVENTS,
            "content-type",
            f"content-type is {_shown(content_type)} and there are no ce_ headers; "
            "allowed: content-type application/cloudevents+json, or ce_ headers",
        )
    fields: dict[str, Any] = {}
    for name in _ATTRIBUTES:
        content = attributes.get(name)
        if content is not None:
            fields[name] = _header_text(f"ce_{name}", content)
    if content_type is not None:
        fields["datacontenttype"] = _header_text("content-type", content_type)
    kind = fields.get("type")
    if kind is None:
        raise Refused(Reason.MISSING_FIELD, "ce_type", "ce_type is missing; it is required")
    if kind not in EVENT_TYPES:
        _refuse_type("ce_type", kind)
    try:
        fields["data"] = _Readers.data[kind](value)
    except ValidationError as error:
        _refuse_value(value, error, _data_field)
    try:
        event: Envelope = _Readers.attributes[kind](fields)
    except ValidationError as error:
        _refuse_value(value, error, _header_field)
    return event


def _header_text(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refused(
            Reason.NOT_UTF8, name, f"{name} is {_shown(content)}; allowed: text in UTF-8"
        ) from None


def _refuse_format(media_type: bytes) -> NoReturn:
    if media_type.startswith(_BATCH):
        raise Refused(
            Reason.BATCH,
            "content-type",
            f"content-type is {_shown(media_type)}, a batch; send one event in each record, "
            "keyed by its customer",
        )
    raise Refused(
        Reason.UNSUPPORTED_FORMAT,
        "content-type",
        f"content-type is {_shown(media_type)}; allowed: application/cloudevents+json",
    )


def _refuse_type(field: str, seen: object) -> NoReturn:
    raise Refused(
        Reason.UNKNOWN_TYPE,
        field,
        f"{field} is {_shown(seen)}; allowed: {', '.join(EVENT_TYPES)}",
    )


def _refuse_value(
    value: bytes, error: ValidationError, field_of: Callable[[tuple[int | str, ...]], str]
) -> NoReturn:
    """Turn pydantic's first error into a refusal, and name the other fields with errors."""
    first, *others = error.errors(include_url=False)
    kind, seen, context = first["type"], first["input"], first.get("ctx", {})
    if kind == "json_invalid":
        _refuse_text(value, first["msg"])
    location = first["loc"]
    if "field" in context:
        location = (*location, context["field"])
        seen = seen.get(context["field"])
    if kind == "union_tag_invalid":
        _refuse_type("type", seen.get("type"))
    if kind == "union_tag_not_found" and "specversion" in seen:
        raise Refused(Reason.MISSING_FIELD, "type", "type is missing; it is required")
    field = field_of(location)
    if not field or kind == "union_tag_not_found":
        raise Refused(
            Reason.NOT_CLOUDEVENTS, None, f"the value is {_shown(seen)}; allowed: {_EVENT_SHAPE}"
        )
    if field == "data.customer_id" and (kind == "missing" or seen is None):
        raise Refused(
            Reason.MISSING_CUSTOMER,
            field,
            "data.customer_id is missing; this event must say whose it is",
        ) from None
    if kind == "missing":
        reason, detail = Reason.MISSING_FIELD, f"{field} is missing; it is required"
        if field == "data" and "data_base64" in seen:
            detail += ", as JSON and not as data_base64"
    else:
        reason = Reason.INVALID_FIELD
        allowed = first["msg"].removeprefix("Input should be ")
        detail = f"{field} is {_shown(seen)}; allowed: {allowed}"
    also = sorted({field_of(other["loc"]) for other in others} - {field})
    if also:
        detail += f" (also wrong: {', '.join(also)})"
    raise Refused(reason, field, detail) from None


def _refuse_text(value: bytes, problem: str) -> NoReturn:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise Refused(
            Reason.NOT_UTF8,
            None,
            f"the value is not UTF-8 from byte {error.start} on; allowed: JSON in UTF-8",
        ) from None
    raise Refused(
        Reason.NOT_JSON, None, f"the value is {_shown(value)}; {problem}; allowed: JSON"
    ) from None


def _structured_field(location: tuple[int | str, ...]) -> str:
    # The first part is the event type that the union chose.
    return _path(location[1:])


def _data_field(location: tuple[int | str, ...]) -> str:
    return _path(("data", *location))


def _header_field(location: tuple[int | str, ...]) -> str:
    name = location[0]
    return "content-type" if name == "datacontenttype" else f"ce_{name}"


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix(".")


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = _SHOWN_CHARACTERS


def _shown(seen: object) -> str:
    try:
        text = _REPR.repr(seen)
    except ValueError:
        # Python refuses to write out whole numbers of thousands of digits.
        text = f"a very large {type(seen).__name__}"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
