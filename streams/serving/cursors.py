"""Cursors: where a list, or the reading of a topic, goes on. Opaque to clients."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from http import HTTPStatus
from math import isfinite

from streams.cache.score import RankedCustomer
from streams.serving.problems import Problem

_PLACE = re.compile(r"(0|[1-9][0-9]{0,17})")
_OFFSETS = re.compile(r"[0-9]{1,5}:[0-9]{1,18}(,[0-9]{1,5}:[0-9]{1,18})*")


def after_customer(last: RankedCustomer) -> str:
    """Return the cursor of a ranking behind this customer."""
    return _encoded(json.dumps([last.clv, last.customer_id]))


def customer_before(cursor: str | None) -> RankedCustomer | None:
    """Return the customer behind whom a ranking goes on; None: at its beginning. Raises Problem."""
    if cursor is None:
        return None
    try:
        clv, customer_id = json.loads(_decoded(cursor))
        if type(clv) is not float or type(customer_id) is not str or not isfinite(clv):
            raise _no_cursor()
    except (ValueError, TypeError):
        raise _no_cursor() from None
    return RankedCustomer(customer_id, clv)


def after_due(place: tuple[float, float, str, str]) -> str:
    """Return the cursor of a list of changes to come behind this place."""
    return _encoded(json.dumps(place))


def due_before(cursor: str | None) -> tuple[float, float, str, str] | None:
    """Return the place behind which a list goes on; None: at its beginning. Raises Problem."""
    if cursor is None:
        return None
    try:
        first, second, customer_id, dimension = json.loads(_decoded(cursor))
        numbers = all(type(each) in (int, float) and isfinite(each) for each in (first, second))
        if not numbers or type(customer_id) is not str or type(dimension) is not str:
            raise _no_cursor()
    except (ValueError, TypeError, OverflowError):
        raise _no_cursor() from None
    return first, second, customer_id, dimension


def after_place(place: int) -> str:
    """Return the cursor of a list behind so many places."""
    return _encoded(str(place))


def place_of(cursor: str | None) -> int:
    """Return how many places of a list were read. Raises Problem."""
    if cursor is None:
        return 0
    try:
        text = _decoded(cursor)
    except ValueError:
        raise _no_cursor() from None
    if not _PLACE.fullmatch(text):
        raise _no_cursor()
    return int(text)


def position_text(position: Mapping[int, int]) -> str:
    """Return the next offset of each partition as text, "0:17,1:4"."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(position.items()))


def position_of(text: str) -> dict[int, int]:
    """Return the next offset of each partition. Raises Problem."""
    if not _OFFSETS.fullmatch(text):
        raise Problem(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "Last-Event-ID is not the id of an event of this stream; leave it out to begin with "
            "what comes next",
        )
    pairs = (part.split(":") for part in text.split(","))
    return {int(partition): int(offset) for partition, offset in pairs}


def _encoded(text: str) -> str:
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    return urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode()


def _no_cursor() -> Problem:
    return Problem(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "cursor is none that this list has given; leave it out to begin at the top",
    )
