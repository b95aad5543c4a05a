"""The configuration of a command, with errors that a person can act on."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsError

from streams.addresses import shown_url
from streams.cli.console import CommandError
from streams.cli.rules_errors import DIMENSIONS, line_of, place_of, problem
from streams.kafka.connection import Broker
from streams.settings import ErasureKeyMissing, Settings
from streams.toml_places import places
from streams.variables import assignment, forms, meant, not_json

_WITH_SECRETS = frozenset(
    {"broker", "redis", "kafka_security", "redis_security", "erasure_key", "serve"}
)
_NESTED = frozenset({"kafka_security", "redis_security", "serve"})
_NO_SECRETS = frozenset(
    {
        "protocol", "mechanism", "password_file", "ca_file", "certificate_file", "key_file",
        "host", "port", "now",
    }
)  # fmt: skip

FORMS = forms(Settings)
"""Every variable, and a value as it may be written."""


def load_settings(**given: Any) -> Settings:
    """The settings from the environment and the file that CLV_CONFIG names; `given` comes first.

    CommandError names each wrong setting, the value unless it may be a secret, and what to write.
    """
    path = os.environ.get("CLV_CONFIG")
    if path and not Path(path).is_file():
        raise CommandError(f"CLV_CONFIG is {path!r}: there is no such file")
    try:
        return Settings(**given)
    except ValidationError as error:
        raise CommandError("the configuration is not valid:", *_problems(error, path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"CLV_CONFIG is {path!r}: not TOML: {error}") from None
    except SettingsError as error:
        found = "; ".join(not_json(Settings, os.environ)) or str(error)
        raise CommandError(f"the configuration is not valid: {found}") from None


def settings_of_file(path: Path) -> Settings:
    """The settings with those of a file before all others. CommandError as of `load_settings`."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} is not TOML: {error}") from None
    try:
        return Settings(**given)
    except ValidationError as error:
        raise CommandError("the configuration is not valid:", *_problems(error, path)) from None


def _problems(error: ValidationError, path: str | Path | None) -> list[str]:
    """What is wrong, a line for each, with the line of the file where it is from there."""
    text = Path(path).read_text(encoding="utf-8") if path else ""
    file, lines = tomllib.loads(text), places(text)
    problems = []
    errors = error.errors(include_url=False)
    within = {each["loc"][:end] for each in errors for end in range(1, len(each["loc"]))}
    for each in errors:
        if each["loc"] in within:
            # It only says that there are errors within.
            continue
        where = place_of(each)
        line = line_of(where, lines)
        in_rules = where[:1] == (DIMENSIONS,)
        said = problem(each, file.get(DIMENSIONS)) if in_rules else _problem(each)
        problems.append(f"  {said}" if line is None else f"  {path}, line {line}: {said}")
    return problems


def _problem(problem: ErrorDetails) -> str:
    where = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        return f"{'.'.join(where)} is no setting: {meant(Settings, where)}"
    message = problem["msg"].removeprefix("Value error, ")
    seen = f", got {problem['input']!r}" if _may_be_shown(where) else ""
    variable = next(
        (name for end in range(len(where), 0, -1) if (name := _variable(where[:end])) in FORMS),
        _variable(where[:1]),
    )
    known = variable in FORMS
    form = f"write {assignment(variable, FORMS[variable])}" if known else f"see {variable}__…"
    return f"{'.'.join(where)}: {message}{seen} ({form})"


def _variable(where: Sequence[str]) -> str:
    return "CLV_" + "__".join(where).upper()


def _may_be_shown(where: Sequence[str]) -> bool:
    """Whether what stands there is no secret, nor may be one under a misspelt name."""
    if not where:
        # All settings together.
        return False
    if where[0] not in _WITH_SECRETS:
        return True
    return where[0] in _NESTED and where[-1] in _NO_SECRETS


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
