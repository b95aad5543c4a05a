"""Who may read, and who may write: bearers of one of the configured tokens.

Without tokens to read, anybody on this machine may. Without tokens to write, nobody may.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from http import HTTPStatus
from ipaddress import ip_address

from fastapi import Request
from pydantic import SecretStr

from streams.serving.problems import Problem
from streams.settings import Serve

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


class Access:
    """What a request may do, by the token in its header, or in the cookie of a browser."""

    def __init__(self, serve: Serve) -> None:
        self.read_tokens = bool(serve.read_tokens)
        self.write_tokens = bool(serve.write_tokens)
        self._reads = token_check((*serve.read_tokens, *serve.write_tokens))
        self._writes = token_check(serve.write_tokens)

    def fits(self, token: str) -> bool:
        """Return whether a browser may keep this token, so that it need not be given again."""
        return self._reads(token) or not (self.read_tokens or self.write_tokens)

    def browser_reads(self, request: Request) -> bool:
        """Return whether a browser may see the pages."""
        return not self.read_tokens or self._reads(request.cookies.get(COOKIE, ""))

    def form_secret(self, request: Request) -> str:
        """Return what a form that writes must carry; empty for a browser that may not write.

        It follows from the token and says nothing of it. A page of somebody else cannot know it,
        so that it cannot make a browser send the form.
        """
        token = request.cookies.get(COOKIE, "")
        if not self._writes(token):
            return ""
        return hmac.new(token.encode(), b"a form of clv serve", "sha256").hexdigest()

    def check_reader(self, request: Request) -> None:
        """Raise Problem for a request that may not read."""
        if self.read_tokens and not self._reads(_sent(request)):
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "send the header `Authorization: Bearer TOKEN` with a token of "
                "CLV_SERVE__READ_TOKENS",
                {"WWW-Authenticate": "Bearer"},
            )

    def check_writer(self, request: Request) -> None:
        """Raise Problem for a request that may not write.

        Only the header counts: a browser sends a cookie also where the page of somebody else makes
        it, but not a header.
        """
        if not self.write_tokens:
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "nobody may write here: set CLV_SERVE__WRITE_TOKENS for `clv serve`, and send one "
                "of them as `Authorization: Bearer TOKEN`; or use `clv dead-letters retry`",
            )
        if not self._writes(_bearer(request)):
            raise Problem(
                HTTPStatus.FORBIDDEN,
                "send the header `Authorization: Bearer TOKEN` with a token of "
                "CLV_SERVE__WRITE_TOKENS; one that only reads does not do",
            )


def _sent(request: Request) -> str:
    return _bearer(request) or request.cookies.get(COOKIE, "")


def _bearer(request: Request) -> str:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
