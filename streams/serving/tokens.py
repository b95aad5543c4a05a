"""Who may read: bearers of one of the configured tokens, or anybody on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from fastapi import Request
from pydantic import SecretStr

from streams.serving.problems import Problem


def reader_check(tokens: Sequence[SecretStr]) -> Callable[[Request], None]:
    """Return a check that raises Problem for a request without one of the tokens.

    tokens: none if everybody may read.
    """
    known = [token.get_secret_value().encode() for token in tokens]

    def check(request: Request) -> None:
        if not known:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip().encode()
        # Each is compared, in the same time, so that the answer's delay tells nothing.
        fits = [hmac.compare_digest(sent, token) for token in known]
        if scheme.lower() != "bearer" or not any(fits):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "send the header `Authorization: Bearer TOKEN` with a token of "
                "CLV_SERVE__READ_TOKENS",
                {"WWW-Authenticate": "Bearer"},
            )

    return check


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
