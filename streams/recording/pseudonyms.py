"""Recordings without anybody's ids: each id is replaced by a pseudonym, always the same.

Of an event, only the fields of its contract are kept: a publisher's own fields could name a person.
A record that is no event, and would become a dead letter, is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ValidationError

from models.contracts import EVENT_TYPES, Refused, decode
from models.contracts.clock import Tick
from models.contracts.decode import is_structured
from models.contracts.parameters import Parameters
from models.errors import ClvError
from models.events.orders import OrderItem
from models.events.scales import Scale
from streams.recording.format import Recorded

_IDS: Final = frozenset({"id", "subject", "merged_from"})
_ID_HEADERS: Final = frozenset({"ce_id", "ce_subject"})
_HEADERS: Final = frozenset({"ce_specversion", "ce_source", "ce_type", "ce_time"})
_ENVELOPE: Final = frozenset(
    {"specversion", "id", "source", "type", "time", "subject", "datacontenttype", "data"}
)
_NESTED: Final[Mapping[str, type[BaseModel]]] = {"items": OrderItem, "scale": Scale}

Headers = Sequence[tuple[str, bytes | None]]


class _LeftOut(ClvError):
    """A record that could hold ids which are not found; the text says why."""


class Pseudonyms:
    """Puts other ids in the place of those that records name.

    secret: who has it can tell whether a pseudonym is that of an id; nobody else can.
    """

    def __init__(self, secret: bytes) -> None:
        self.left_out: Counter[str] = Counter()
        """Records that were left out, by reason in words."""
        self._secret = blake2b(secret, digest_size=64).digest()
        self.of = lru_cache(maxsize=100_000)(self._made)
        """Returns the pseudonym of an id: 32 hexadecimal digits."""

    def record(self, role: str, record: Recorded) -> Recorded | None:
        """A record of a topic with this role under pseudonyms; None when it is left out."""
        try:
            return self._record(role, record)
        except _LeftOut as why:
            self.left_out[str(why)] += 1
            return None

    def _record(self, role: str, record: Recorded) -> Recorded:
        if role in ("models", "clock"):
            return self._plain(role, record)
        try:
            event = decode(record.key, record.value, record.headers)
            key = None if record.key is None else self.of(record.key.decode()).encode()
        except Refused as refused:
            raise _LeftOut(f"no event: {refused.reason.value}") from None
        except UnicodeDecodeError:
            raise _LeftOut("its key is no text") from None
        try:
            document = msgspec.json.decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise _LeftOut("its JSON is read differently by different programs") from None
        structured = is_structured(record.headers)
        headers = self._headers(record.headers, structured=structured)
        if not structured:
            document = self._data(event.type, document)
        else:
            document = {
                name: self._data(event.type, held) if name == "data" else self._held(name, held)
                for name, held in document.items()
                if name in _ENVELOPE
            }
        return msgspec.structs.replace(
            record, key=key, value=msgspec.json.encode(document), headers=headers
        )

    def _made(self, name: str) -> str:
        return blake2b(
            name.encode("utf-8", "surrogatepass"), digest_size=16, key=self._secret
        ).hexdigest()

    def _plain(self, role: str, record: Recorded) -> Recorded:
        """Parameters and ticks hold no ids; what is neither could."""
        contract: type[BaseModel] = Tick if role == "clock" else Parameters
        if record.value is None:
            raise _LeftOut(f"no value, on the topic of the {role}")
        try:
            said = contract.model_validate_json(record.value)
        except ValidationError:
            raise _LeftOut(f"not what the topic of the {role} is for") from None
        key = said.version.encode() if isinstance(said, Parameters) else None
        value = said.model_dump_json(exclude_none=True).encode()
        return msgspec.structs.replace(record, key=key, value=value, headers=())

    def _headers(
        self, headers: Headers, *, structured: bool
    ) -> tuple[tuple[str, bytes | None], ...]:
        # Of several of one name the last counts, and of a structured event none but its type.
        counted = {
            name.lower(): (name, content) for name, content in headers if content is not None
        }
        kept: list[tuple[str, bytes | None]] = []
        for folded, (name, content) in counted.items():
            if folded == "content-type":
                kept.append((name, content.partition(b";")[0].rstrip()))
            elif structured:
                continue
            elif folded in _HEADERS:
                kept.append((name, content))
            elif folded in _ID_HEADERS:
                kept.append((name, self.of(content.decode("utf-8", "replace")).encode()))
        return tuple(kept)

    def _data(self, kind: str, data: Mapping[str, Any]) -> dict[str, Any]:
        known = EVENT_TYPES[kind].model_fields
        return {name: self._held(name, held) for name, held in data.items() if name in known}

    def _held(self, name: str, held: Any) -> Any:
        if isinstance(held, str) and (name in _IDS or name.endswith("_id")):
            return self.of(held)
        if name == "datacontenttype" and isinstance(held, str):
            return held.partition(";")[0].rstrip()
        nested = _NESTED.get(name)
        if nested is None:
            return held
        if isinstance(held, list):
            return [_only(nested, each) for each in held]
        return _only(nested, held)


def _only(contract: type[BaseModel], held: Any) -> Any:
    """The fields that a contract names."""
    if not isinstance(held, Mapping):
        return held
    return {name: each for name, each in held.items() if name in contract.model_fields}
