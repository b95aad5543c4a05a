"""Who may read: bearers of one of the configured tokens, or anybody on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from fastapi import Request
from pydantic import SecretStr

from streams.serving.problems import Problem

COOKIE = "clv_token"
"""The cookie of a browser in which somebody has given a token."""


def token_check(tokens: Sequence[SecretStr]) -> Callable[[str], bool]:
    """Return a function that says whether a text is one of the tokens."""
    known = [token.get_secret_value().encode() for token in tokens]

    def fits(sent: str) -> bool:
        # Each is compared, in the same time, so that the answer's delay tells nothing.
        compared = [hmac.compare_digest(sent.encode(), token) for token in known]
        return any(compared)

    return fits


def reader_check(tokens: Sequence[SecretStr]) -> Callable[[Request], None]:
    """Return a check that raises Problem for a request without one of the tokens.

    tokens: none if everybody may read.
    """
    fits = token_check(tokens)

    def check(request: Request) -> None:
        if not tokens:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        sent = given.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        if not fits(sent):
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
