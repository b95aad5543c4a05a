"""Messages about merges and erasures between partitions, on `clv.identity`, keyed by receiver.

A merge crosses partitions in two steps. `customer.merged` arrives in the partition of the customer
who stays, which sends a `Release` to the partition of the merged customer. That one closes the
merged customer's record, so that later events follow the merge, and sends the state back in an
`Absorb`. Both steps may be repeated after a crash: a closed record does not change, and joining the
same state twice changes nothing.
"""

from __future__ import annotations

from typing import Final

import msgspec

from models.aggregate.compacted import count_months
from models.aggregate.record import MergedCustomer, WrittenByNewer
from models.aggregate.schema2 import upgraded
from models.aggregate.state import Aggregate
from models.errors import ClvError

_SCHEMA: Final = 3
"""3: as record schema 4. Messages of versions 1 and 2 are read."""


class Message(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """A message to one customer; via: the merged customers that it passed."""


class Release(Message, array_like=True, frozen=True, tag=True):
    """Hand your state to `target`: you are the same customer. at: milliseconds since 1970."""

    target: str
    at: int
    via: tuple[str, ...] = ()


class Absorb(Message, array_like=True, frozen=True, tag=True):
    """Take over the state of `source`, and the customers who were merged into it before.

    erased_at: events of `source` up to then are erased, and now those of the receiver; -1 for none.
    """

    source: str
    aggregate: Aggregate
    as_of: int
    merged: MergedCustomer
    absorbed: dict[str, MergedCustomer]
    via: tuple[str, ...] = ()
    erased_at: int = -1


class Erase(Message, array_like=True, frozen=True, tag=True):
    """Erase events up to `until`, in milliseconds since 1970.

    undo: if you were merged into another by then, undo that; the other holds nothing of yours.
    keeper, at: the customer who holds your state since you were merged at that time. You may have
    been told otherwise by a worker that crashed before it stored what it decided.
    via: the customers that it passed, if it follows merges to whoever holds your state now.
    """

    until: int
    undo: bool = True
    keeper: str = ""
    at: int = -1
    via: tuple[str, ...] = ()


class Return(Message, array_like=True, frozen=True, tag=True):
    """Continue separately: `source`, into whom you were merged at `at`, could not take over."""

    source: str
    at: int


AnyMessage = Release | Absorb | Erase | Return

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)
_PREFIX: Final = bytes([_SCHEMA])
_ABSORB: Final = _encoder.encode("Absorb")


def encode_message(message: Message) -> bytes:
    """Encode a message: one byte of schema version, then MessagePack."""
    return _PREFIX + _encoder.encode(message)


def with_version(message: bytes, version: int, as_of: int) -> bytes:
    """Return an encoded `Absorb` with the last version of the merged customer, and their time."""
    absorb = decode_message(message)
    assert isinstance(absorb, Absorb)  # noqa: S101 - the caller has encoded it.
    merged = MergedCustomer(version, absorb.merged.at)
    return encode_message(msgspec.structs.replace(absorb, merged=merged, as_of=as_of))


class DamagedMessage(ClvError):
    """The bytes are not a message."""


def decode_message(data: bytes) -> AnyMessage:
    """Decode a message.

    Raises
    ------
    WrittenByNewer
        if a newer version wrote it. It may hold a state: run that version or a later one.
    DamagedMessage
        if the bytes are not a message.
    """
    if data[:1] > _PREFIX:
        raise WrittenByNewer(
            f"a message between customers has schema {data[0]}, this program reads up to "
            f"{_SCHEMA}: it was written by a newer version; run that one or a later one"
        )
    content: bytes | memoryview = memoryview(data)[1:]
    try:
        if data[:1] < b"\x02" and bytes(content[1:8]) == _ABSORB:
            content = upgraded(content, place=2)
        message: AnyMessage = _decoder.decode(content)
        if data[:1] < _PREFIX and isinstance(message, Absorb) and message.aggregate.compacted:
            count_months(message.aggregate.compacted)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedMessage(f"a message of {len(data)} bytes is damaged: {error}") from error
    return message


def closes_circle(customer_id: str, into: str, via: tuple[str, ...]) -> bool:
    """Return whether a customer, merged into `into`, must end a circle: it has the least id in it.

    Crossing merges (a into b, b into a) form a circle in which messages would go round for ever.
    """
    if customer_id not in via:
        return False
    circle = via[len(via) - 1 - via[::-1].index(customer_id) :]
    return circle[1:2] == (into,) and customer_id == min(circle)
