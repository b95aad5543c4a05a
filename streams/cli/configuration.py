"""The configuration of a command, with errors that a person can act on."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

from pydantic import ValidationError
from pydantic_settings import SettingsError

from streams.cli.console import CommandError
from streams.connection import Broker, shown_url
from streams.settings import ErasureKeyMissing, Settings

_WITH_SECRETS = frozenset({"broker", "redis", "kafka_security", "redis_security", "erasure_key"})
_NO_SECRETS = frozenset({"protocol", "mechanism", "ca_file", "certificate_file", "key_file"})


def load_settings(**given: Any) -> Settings:
    """The settings from the environment and the file that CLV_CONFIG names; `given` comes first.

    Raises
    ------
    CommandError
        naming each wrong field, the value seen, and where it can be set.
    """
    path = os.environ.get("CLV_CONFIG")
    if path and not Path(path).is_file():
        raise CommandError(f"CLV_CONFIG is {path!r}: there is no such file")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise CommandError("the configuration is not valid:", *_problems(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"CLV_CONFIG is {path!r}: not TOML: {error}") from error
    except ZoneInfoNotFoundError as error:
        raise CommandError(
            f"the configuration is not valid: economics.timezone: {error.args[0]}; "
            "name one such as Europe/Berlin"
        ) from error
    except SettingsError as error:
        raise CommandError(f"the configuration is not valid: {error}: {error.__cause__}") from error


def _problems(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False):
        where = [str(part) for part in problem["loc"]]
        variable = "CLV_" + "__".join(part.upper() for part in where)
        message = problem["msg"].removeprefix("Value error, ")
        seen = f", got {problem['input']!r}" if _may_be_shown(where) else ""
        lines.append(f"  {'.'.join(where)}: {message}{seen} (see {variable})")
    return lines


def _may_be_shown(where: list[str]) -> bool:
    """Whether what stands there is no secret, nor may be one under a misspelt name."""
    if not where or where[0] not in _WITH_SECRETS:
        return True
    return where[0].endswith("_security") and where[-1] in _NO_SECRETS


def need_broker(settings: Settings) -> Broker:
    """The configured broker; CommandError when there is none, or it is no address."""
    if settings.broker is None:
        raise CommandError(
            "no broker is configured: set CLV_BROKER=host:port, or try `clv demo`, which brings "
            "its own"
        )
    for server in settings.broker.split(","):
        host, colon, port = server.strip().rpartition(":")
        if colon and not (host and port.isdecimal()) and not server.endswith("]"):
            raise CommandError(
                f"CLV_BROKER is {shown_url(settings.broker)!r}: write host:port,host:port"
            )
    return Broker.of(settings)


def need_erasure_key(settings: Settings) -> None:
    """CommandError when no erasure key is configured."""
    try:
        _ = settings.erasure_secret
    except ErasureKeyMissing as error:
        raise CommandError(str(error)) from error


def need_redis(settings: Settings) -> str:
    """The configured Redis; CommandError when there is none."""
    if settings.redis is None:
        raise CommandError(
            "no Redis is configured: set CLV_REDIS=redis://host:port/0, or try `clv demo`, which "
            "brings its own and prints its address"
        )
    return settings.redis
