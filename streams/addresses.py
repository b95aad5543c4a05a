"""Check addresses of servers, and show them without logins."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

HIDDEN = "***"

REDIS_SCHEMES = ("redis", "rediss", "unix")

_USERINFO = re.compile(r"^((?:[^:/@]*://)?)(.*)@", re.DOTALL)
_SECRET_OPTION = re.compile(r"(password=)[^&#]*", re.IGNORECASE)
_SECRET_OPTION_IN_TEXT = re.compile(r"""(password=)(?:\\.|[^&#\s"'\\])*""", re.IGNORECASE)
_SECRET_ITEM = re.compile(r"""((['"])\w*password\2:\s*)(?:b?(['"]).*?\3|[^\s,}]+)""", re.IGNORECASE)
_URL_WITH_LOGIN = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"<>]*@", re.IGNORECASE)


def shown_url(url: str) -> str:
    """Return a URL or address for logs: with the user's name, without the password."""
    return _SECRET_OPTION.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(_without_password, url))


def without_logins(text: str) -> str:
    """Return a text without the passwords in its URLs and options."""
    text = _URL_WITH_LOGIN.sub(lambda found: shown_url(found[0]), text)
    text = _SECRET_ITEM.sub(rf"\g<1>{HIDDEN}", text)
    return _SECRET_OPTION_IN_TEXT.sub(rf"\g<1>{HIDDEN}", text)


def _without_password(found: re.Match[str]) -> str:
    user, colon, _password = found[2].partition(":")
    return f"{found[1]}{user}:{HIDDEN}@" if colon else f"{found[1]}{HIDDEN}@"


def broker_address(servers: str) -> str:
    """Return the bootstrap servers unchanged; raises ValueError if they contain a login.

    The error's text never quotes the input, which may contain a password.
    """
    if "@" in servers:
        raise ValueError(
            "a broker's address has no login in it: write host:port,host:port, and the login as "
            "CLV_KAFKA_SECURITY__USERNAME and CLV_KAFKA_SECURITY__PASSWORD, with "
            "CLV_KAFKA_SECURITY__PROTOCOL=SASL_SSL"
        )
    return servers


def redis_address(url: str) -> str:
    """Return the Redis URL unchanged; raises ValueError if it is not one.

    An unescaped / in a password would make its beginning a port, which libraries show in errors.
    """
    try:
        parts = urlsplit(url)
        broken = (
            parts.scheme not in REDIS_SCHEMES or "@" in parts.path + parts.query + parts.fragment
        )
        _ = parts.port
    except ValueError:
        # The parser's error could quote a part of a password.
        broken = True
    if broken:
        raise ValueError(
            "that is no Redis URL: write redis://host:port/0, or rediss:// for TLS; special "
            "characters of a password as %40 and so on, or the login as "
            "CLV_REDIS_SECURITY__USERNAME and CLV_REDIS_SECURITY__PASSWORD"
        )
    return url
