"""`clv doctor`: is everything there that a worker needs?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import typer

from streams.addresses import without_logins
from streams.cli.checks import Check, Status, erasure_key, installation, servers, state_directory
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json
from streams.cli.options import AsJson
from streams.cli.running import run

STYLES: Mapping[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, the configuration, the broker, its topics, Redis and the model.

    The exit status is 1 when something would keep a worker from working.
    """
    checks = [*installation()]
    try:
        settings = load_settings()
    except CommandError as error:
        found = "; ".join(line.strip() for line in error.lines)
        checks.append(Check("configuration", "fail", found, "correct it"))
    else:
        economics = settings.economics
        summary = f"valid; values in {economics.currency}, days in {economics.timezone}"
        checks += [Check("configuration", "ok", summary), *state_directory(settings)]
        checks += erasure_key(settings)
        checks += run(servers(settings))
    checks = [
        replace(each, found=without_logins(each.found), advice=without_logins(each.advice))
        for each in checks
    ]
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _print(checks: Sequence[Check]) -> None:
    console = out()
    for check in checks:
        console.print(f"{check.status:>4}", style=STYLES[check.status], end="  ")
        console.print(f"{check.name}: {check.found}", soft_wrap=True)
        if check.advice:
            console.print(f"      -> {check.advice}", soft_wrap=True)
