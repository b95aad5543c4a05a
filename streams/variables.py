"""The environment variables `CLV_…`: their names and forms, and corrections of misspelt ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

PREFIX = "CLV_"
BETWEEN = "__"

OTHER_VARIABLES: Mapping[str, str] = {
    "CLV_CI": "tests/conftest.py",
    "CLV_COMPILE": "tools/backend.py",
    "CLV_CONFIG": "streams/settings.py",
    "CLV_DATA_DIR": "streams/datasets/dataset.py",
    "CLV_FITTER_MEMORY_LIMIT": "docker-compose.yml",
    "CLV_PSEUDONYM_SECRET": "streams/cli/record.py",
    "CLV_REDIS_MEMORY": "docker-compose.yml",
    "CLV_REDIS_MEMORY_LIMIT": "docker-compose.yml",
    "CLV_TESTING_CLOCK": "streams/testing/worker_process.py",
    "CLV_WORKER_MEMORY_LIMIT": "docker-compose.yml",
}
"""Variables that are not settings, and who reads them; other unknown variables are refused."""

EXAMPLES: Mapping[str, str] = {
    "broker": "localhost:9092",
    "redis": "redis://localhost:6379/0",
    "erasure_key": """"$(python -c 'import secrets; print(secrets.token_hex(32))')\"""",
    "state_dir": "/var/lib/clv",
    "health_port": "8077",
    "now": "1998-07-01T00:00:00Z",
    "endpoint": "http://localhost:4318/v1/traces",
    "protocol": "SASL_SSL",
    "username": "clv-worker",
    "exchange_rates": '{"EUR": "1.08"}',
    "placeholder_ids": '["guest"]',
    "timezone": "Europe/Berlin",
    "dimensions": '[{"use": "lifecycle"}]',
    "rates_file": "/etc/clv/eurofxref-hist.csv",
}
"""Example values of fields whose default does not show the form."""

CLOSE = 0.75
"""Similarity, from 0 to 1, from which a name counts as a misspelling."""


def forms(model: type[BaseModel]) -> dict[str, str]:
    """Return every variable of a model with an example value, nested ones included."""
    return {_variable(where): _form(where[-1], field) for where, field in leaves(model)}


def leaves(
    model: type[BaseModel], within: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield every field that holds a value, by its path of names."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if field.exclude:
            continue
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, (*within, name))
        else:
            yield (*within, name), field


def unknown_variables(model: type[BaseModel], environment: Iterable[str]) -> Iterator[str]:
    """Yield the names of an environment that look like ours and that nothing reads.

    Names within a group (CLV_ECONOMICS__…) are left to the group, which refuses them itself.
    """
    plain = {where[0].upper() for where, _ in leaves(model) if len(where) == 1}
    groups = {name.upper() for name in model.model_fields} - plain
    for given in environment:
        name = given.upper()
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        first, deeper, _ = name.removeprefix(PREFIX).partition(BETWEEN)
        if first not in groups and (first not in plain or deeper):
            yield given


def meant(model: type[BaseModel], given: Iterable[str]) -> str:
    """Return the setting that a name may have meant, as a variable and as a name in the file.

    given: the name, or its path of names.
    """
    names = [part for part in given if part]
    words = _squeezed(BETWEEN.join(names).upper().removeprefix(PREFIX))
    known = {_squeezed(BETWEEN.join(where)): where for where, _ in leaves(model)}
    groups = {_squeezed(where[0]): where[0] for where in known.values() if len(where) > 1}
    last = {_squeezed(where[-1]): where for where in known.values()}
    found = known.get(words) or last.get(words)
    if found is None:
        close = get_close_matches(words, [*known, *groups, *last], n=1, cutoff=CLOSE)
        match = close[0] if close else ""
        if match in groups and match not in known:
            name = groups[match]
            return f"did you mean {name} (in the file [{name}]; {_variable([name])}{BETWEEN}…)?"
        found = known.get(match) or last.get(match)
    if found is None:
        return "docs/cli.md lists the settings"
    variable = _variable(found)
    return f"did you mean {'.'.join(found)} ({assignment(variable, forms(model)[variable])})?"


def assignment(variable: str, form: str) -> str:
    """Return what to write in a shell to set a variable to an example value."""
    return f"{variable}='{form}'" if _is_json(form) else f"{variable}={form}"


def _is_json(form: str) -> bool:
    return form[0] in "[{"


def not_json(model: type[BaseModel], environment: Mapping[str, str]) -> Iterator[str]:
    """Yield the variables that must contain JSON and do not, with their form, never their value."""
    as_json = {_variable(where): _form(where[-1], field) for where, field in leaves(model)}
    wanted = {name: form for name, form in as_json.items() if _is_json(form)}
    for name, field in model.model_fields.items():
        if any(each.startswith(_variable((name,)) + BETWEEN) for each in as_json):
            wanted[_variable((name,))] = json.dumps(_defaults(field))
    for given, value in environment.items():
        form = wanted.get(given.upper())
        if form is None:
            continue
        try:
            json.loads(value)
        except ValueError as error:
            yield f"{given.upper()} is no JSON ({error}); write {assignment(given.upper(), form)}"


def _variable(where: Iterable[str]) -> str:
    return PREFIX + BETWEEN.join(where).upper()


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _defaults(field: FieldInfo) -> dict[str, Any]:
    kind = field.annotation
    assert isinstance(kind, type)  # noqa: S101 - only groups are asked for
    assert issubclass(kind, BaseModel)  # noqa: S101
    for where, leaf in leaves(kind):
        return {where[0]: _form(where[-1], leaf)}
    return {}


def _form(name: str, field: FieldInfo) -> str:
    if name in EXAMPLES:
        return EXAMPLES[name]
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, set | frozenset | list | tuple):
        return json.dumps(sorted(default))
    if isinstance(default, dict):
        return json.dumps(default)
    if default is not None:
        return str(default)
    kinds = str(field.annotation)
    if SecretStr.__name__ in kinds:
        return "SECRET"
    return f"/path/to/{name}" if Path.__name__ in kinds else "VALUE"
