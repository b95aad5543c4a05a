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
from streams.settings import Settings


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
        raise CommandError("the configuration is not valid:\n" + _problems(error)) from error
    except tomllib.TOMLDecodeError as error:
        raise CommandError(f"CLV_CONFIG is {path!r}: not TOML: {error}") from error
    except ZoneInfoNotFoundError as error:
        raise CommandError(
            f"the configuration is not valid: economics.timezone: {error.args[0]}; "
            "name one such as Europe/Berlin"
        ) from error
    except SettingsError as error:
        raise CommandError(f"the configuration is not valid: {error}: {error.__cause__}") from error


def _problems(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        where = [str(part) for part in problem["loc"]]
        variable = "CLV_" + "__".join(part.upper() for part in where)
        message = problem["msg"].removeprefix("Value error, ")
        lines.append(f"  {'.'.join(where)}: {message}, got {problem['input']!r} (see {variable})")
    return "\n".join(lines)


def need_broker(settings: Settings) -> str:
    """The configured broker; CommandError when there is none, or it is no address."""
    if settings.broker is None:
        raise CommandError(
            "no broker is configured: set CLV_BROKER=host:port, or try `clv demo`, which brings "
            "its own"
        )
    for server in settings.broker.split(","):
        host, colon, port = server.strip().rpartition(":")
        if colon and not (host and port.isdecimal()) and not server.endswith("]"):
            raise CommandError(f"CLV_BROKER is {settings.broker!r}: write host:port,host:port")
    return settings.broker


def need_redis(settings: Settings) -> str:
    """The configured Redis; CommandError when there is none."""
    if settings.redis is None:
        raise CommandError(
            "no Redis is configured: set CLV_REDIS=redis://host:port/0, or try `clv demo`, which "
            "brings its own and prints its address"
        )
    return settings.redis
