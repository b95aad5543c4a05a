"""Bodies of requests, up to a bound."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.requests import Request

from streams.serving.problems import Problem

LARGEST: Final = 64 * 1024
"""Bytes of a body: more than any request of ours needs."""


async def body_of(request: Request) -> bytes:
    """Return the body of a request. Errors: Problem, if it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {LARGEST} bytes"
            )
    return body
