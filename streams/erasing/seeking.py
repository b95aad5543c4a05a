"""Finding a customer's ids in bytes: in JSON, MessagePack and text, not in longer ids."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Container, Iterable, Sequence

import msgspec

_ID_BYTE = rb"[A-Za-z0-9_\-]"
"""What continues an id on either side: in the midst of these it is another one."""

_pack = msgspec.msgpack.Encoder().encode

Headers = Iterable[tuple[str, bytes | None]]


class Seeker:
    """Finds some customers' ids.

    It may take other text for an id as short as "7". It misses none of the forms in which the
    service writes an id.
    """

    def __init__(self, ids: Collection[str]) -> None:
        self.ids = tuple(dict.fromkeys(ids))
        self._keys = {each.encode(): each for each in self.ids}
        self._patterns = [(each, _forms(each), _pattern(each)) for each in self.ids]

    def key(self, key: bytes | None) -> str | None:
        """The id that a record's key is."""
        return None if key is None else self._keys.get(key)

    def in_order(self, found: Container[str]) -> tuple[str, ...]:
        """The ids that were found, in the order in which they were given."""
        return tuple(each for each in self.ids if each in found)

    def within(self, data: bytes | None) -> frozenset[str]:
        """The ids that stand in these bytes."""
        if not data:
            return frozenset()
        return frozenset(
            each
            for each, forms, pattern in self._patterns
            if any(form in data for form in forms) and pattern.search(data)
        )

    def in_record(self, key: bytes | None, value: bytes | None, headers: Headers) -> frozenset[str]:
        """The ids that stand in a record's key, value or headers."""
        found = self.within(key) | self.within(value)
        for name, content in headers:
            found |= self.within(name.encode()) | self.within(content)
        return found


def _forms(customer_id: str) -> Sequence[bytes]:
    """The id as text, and as JSON writes it with and without characters beyond ASCII."""
    texts = [customer_id, json.dumps(customer_id)[1:-1]]
    texts.append(json.dumps(customer_id, ensure_ascii=False)[1:-1])
    # JSON within a string of JSON, as in an exported letter.
    texts += [json.dumps(text)[1:-1] for text in texts[1:]]
    return [text.encode() for text in dict.fromkeys(texts)]


def _pattern(customer_id: str) -> re.Pattern[bytes]:
    alone = b"|".join(
        rb"(?<!" + _ID_BYTE + rb")" + re.escape(form) + rb"(?!" + _ID_BYTE + rb")"
        for form in _forms(customer_id)
    )
    # MessagePack has the length before: nothing else need bound it.
    packed = [re.escape(_pack(customer_id)), re.escape(_pack(customer_id.encode()))]
    return re.compile(b"|".join([alone, *packed]))
