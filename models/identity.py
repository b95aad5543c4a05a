"""What workers tell each other about identities, on `clv.identity`, keyed by whom it is for.

A merge crosses partitions in two steps, each of them safe to repeat. `customer.merged` arrives
where the one that stays lives, and sends a `Release` to where the other lives. There the customer's
record is closed as it is, which also says that everything still to come goes after it, and is then
handed on in an `Absorb`. States join idempotently, and a closed one stays the same, so whatever is
sent twice after a crash counts once.
"""

from __future__ import annotations

from typing import Final

import msgspec

from models.aggregate.record import Guest, WrittenByNewer
from models.aggregate.state import Aggregate

_SCHEMA: Final = 1


class Message(msgspec.Struct, array_like=True, frozen=True, tag=True):
    """Something for one customer; via: identities by which it came here."""


class Release(Message, array_like=True, frozen=True, tag=True):
    """Hand your state to `target`: you are the same customer. at: milliseconds since 1970."""

    target: str
    at: int
    via: tuple[str, ...] = ()


class Absorb(Message, array_like=True, frozen=True, tag=True):
    """Take the state of `source`, merged at a time and version, and those merged into it before."""

    source: str
    aggregate: Aggregate
    as_of: int
    guest: Guest
    absorbed: dict[str, Guest]
    via: tuple[str, ...] = ()


class Erase(Message, array_like=True, frozen=True, tag=True):
    """Forget what happened until `until`, in milliseconds since 1970.

    undo: also that you were merged into another, if that was by then; they hold nothing of yours.
    """

    until: int
    undo: bool = True


class Return(Message, array_like=True, frozen=True, tag=True):
    """Go on by yourself: `source`, into whom you were merged at `at`, could not take your state."""

    source: str
    at: int


AnyMessage = Release | Absorb | Erase | Return

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(AnyMessage)
_PREFIX: Final = bytes([_SCHEMA])


def encode_message(message: Message) -> bytes:
    """The message as bytes: one byte of schema version, then MessagePack."""
    return _PREFIX + _encoder.encode(message)


class DamagedMessage(Exception):
    """These bytes are no message."""


def decode_message(data: bytes) -> AnyMessage:
    """The message of these bytes.

    Raises
    ------
    WrittenByNewer
        when it was written by a newer version: run that one or a later one; a state may be in it.
    DamagedMessage
        when it is none at all.
    """
    if data[:1] > _PREFIX:
        raise WrittenByNewer(
            f"a message between customers has schema {data[0]}, this program reads up to "
            f"{_SCHEMA}: it was written by a newer version; run that one or a later one"
        )
    try:
        message: AnyMessage = _decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DamagedMessage(f"a message of {len(data)} bytes is damaged: {error}") from error
    return message


def closes_circle(customer_id: str, into: str, via: tuple[str, ...]) -> bool:
    """Whether a customer, merged into `into`, ends a circle of merges, being the least id in it.

    Merges that cross each other can make a circle, in which everything would go round for ever.
    """
    if customer_id not in via:
        return False
    circle = via[len(via) - 1 - via[::-1].index(customer_id) :]
    return circle[1:2] == (into,) and customer_id == min(circle)
