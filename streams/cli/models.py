"""`clv models`: parameters in force, earlier, later, and refused; asking for a refit."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer
from rich.table import Table

from models.calibration import Calibration
from models.contracts.parameters import Parameters
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, out, print_json, say
from streams.cli.fit import parameters_table
from streams.cli.options import AsJson, group
from streams.cli.record_options import topics_there
from streams.cli.running import command
from streams.fitter.due import in_force
from streams.fitter.publishing import put_in_force
from streams.kafka.connection import Broker
from streams.registry.reading import read_registry, write_document
from streams.registry.records import REQUEST, Request, candidate_key
from streams.registry.registry import Registry
from streams.settings import Settings
from streams.topics import changelog_topic

RESTORED = "-restored-"
"""Between the version that is restored and the time, in the version of a rollback."""

MOST_CHARACTERS = 100

models = group("Fitted parameters: in force, earlier, later, and refused; refits.")

Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `clv models list` shows it.")]


class Entry(NamedTuple):
    """Parameters, and what they are now: in force, earlier, later or refused."""

    status: str
    parameters: Parameters
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "version": self.parameters.version,
            "status": self.status,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "calibration": self.calibration and self.calibration.model_dump(mode="json"),
            "parameters": self.parameters.model_dump(mode="json"),
        }


def entries(registry: Registry, now: datetime) -> Iterator[Entry]:
    """Yield the published parameters, the earliest first, and then the refused candidates."""
    current = in_force(registry, now)
    timeline = registry.timeline.published
    replaced = [each for each in registry.published.values() if each not in timeline]
    for each in (*replaced, *timeline):
        if each is current:
            status = "in force"
        else:
            later = each.holds_from is not None and each.holds_from > now
            status = "later" if later else "earlier"
        yield Entry(status, each, calibration=registry.calibrations.get(each.version))
    for candidate in registry.candidates.values():
        known = registry.calibrations.get(candidate.parameters.version)
        yield Entry("refused", candidate.parameters, candidate.reasons, candidate.notes, known)


@models.command("list")
@command
async def list_(as_json: AsJson = False) -> None:
    """List parameters: in force, earlier, later, and refused ones with the reasons."""
    settings = load_settings()
    _, registry = await _read(settings)
    found = list(entries(registry, datetime.now(UTC)))
    if as_json:
        state = registry.state
        print_json(
            {
                "models": [each.document() for each in found],
                "last_refit": None if state is None else state.model_dump(mode="json"),
            }
        )
        return
    if not found:
        say(f"{settings.topics.models} has no parameters: weak prior ones are used")
        return
    table = Table("version", "status", "holds from", "customers", "reasons")
    for each in found:
        since = each.parameters.holds_from
        shown = "" if each.status == "refused" else "ever" if since is None else since.isoformat()
        table.add_row(
            each.parameters.version,
            each.status,
            shown,
            f"{each.parameters.customers:,}",
            "; ".join(each.reasons),
        )
    out().print(table)


@models.command()
@command
async def show(version: Version, as_json: AsJson = False) -> None:
    """Show parameters, and why they were refused if they were."""
    settings = load_settings()
    _, registry = await _read(settings)
    found = _entry(registry, version, settings)
    if as_json:
        print_json(found.document())
        return
    say(f"{version}: {found.status}", *(f"  {each}" for each in (*found.reasons, *found.notes)))
    out().print(parameters_table(found.parameters))
    if found.calibration is not None:
        out().print(calibration_table(found.calibration))


def calibration_table(found: Calibration) -> Table:
    """Return what was expected of held-out days, and what came, by group of customers."""
    table = Table("customers", "expected", "observed", title=f"{found.first} to {found.last}")
    for each in found.groups:
        table.add_row(
            f"{each.customers:,}",
            f"{each.expected:,.0f} ± {each.deviation:,.0f}",
            f"{each.observed:,.0f}",
        )
    return table


@models.command()
@command
async def publish(version: Version, as_json: AsJson = False) -> None:
    """Put a refused candidate in force from now, and have all customers scored with it."""
    settings = load_settings()
    broker, registry = await _read(settings)
    found = _entry(registry, version, settings)
    if found.status != "refused":
        raise CommandError(
            f"{version} is published already, and {found.status}"
            + ("" if found.status != "earlier" else f": see `clv models rollback {version}`")
        )
    await _put(settings, broker, found.parameters, as_json=as_json)
    await write_document(broker, settings.topics.models, candidate_key(version), None)


@models.command()
@command
async def rollback(version: Version, as_json: AsJson = False) -> None:
    """Put earlier parameters in force again from now, under a new version that names them."""
    settings = load_settings()
    broker, registry = await _read(settings)
    found = _entry(registry, version, settings)
    if found.status != "earlier":
        other = f": see `clv models publish {version}`" if found.status == "refused" else ""
        raise CommandError(f"{version} is {found.status}, and not earlier{other}")
    now = datetime.now(UTC)
    name = f"{version.split(RESTORED)[0]}{RESTORED}{now:%Y-%m-%dT%H.%M.%S.%f}"
    if len(name) > MOST_CHARACTERS:
        raise CommandError(
            f"{name} is longer than {MOST_CHARACTERS} characters; write the parameters to a file "
            "by `clv models show --json`, and publish them under a shorter version"
        )
    await _put(
        settings, broker, found.parameters.model_copy(update={"version": name}), as_json=as_json
    )


@models.command()
@command
async def refit(as_json: AsJson = False) -> None:
    """Ask the fitter to refit, once; without one the request waits until there is one."""
    settings = load_settings()
    broker = need_broker(settings)
    await registry_topics(settings, broker)
    request = Request(id=uuid.uuid4().hex, asked_at=datetime.now(UTC))
    await write_document(broker, settings.topics.models, REQUEST, request)
    if as_json:
        print_json(request.model_dump(mode="json"))
    else:
        say("asked: a running `clv fitter` refits, and `clv models list` shows what comes of it")


async def registry_topics(settings: Settings, broker: Broker) -> int:
    """Return the partition count of the service; CommandError if its topics are not there."""
    await broker.check()
    names = {
        "models": settings.topics.models,
        "clock": settings.topics.clock,
        "changelog": changelog_topic(settings),
    }
    topics = await topics_there(
        broker, names, "start a worker, run `clv topics create`, or set CLV_APP_ID to the service's"
    )
    return topics[-1].partitions


async def _read(settings: Settings) -> tuple[Broker, Registry]:
    broker = need_broker(settings)
    await registry_topics(settings, broker)
    return broker, await read_registry(broker, settings.topics.models, settings.economics.currency)


def _entry(registry: Registry, version: str, settings: Settings) -> Entry:
    for each in entries(registry, datetime.now(UTC)):
        if each.parameters.version == version:
            return each
    raise CommandError(
        f"{settings.topics.models} has no parameters {version!r} in {settings.economics.currency}; "
        "`clv models list` shows what it has"
    )


async def _put(
    settings: Settings, broker: Broker, parameters: Parameters, *, as_json: bool
) -> None:
    now = datetime.now(UTC)
    partitions = await registry_topics(settings, broker)
    holding = parameters.model_copy(update={"holds_from": now})
    await put_in_force(settings, broker, partitions, holding)
    if as_json:
        print_json({"version": holding.version, "holds_from": now.isoformat()})
    else:
        say(f"{holding.version} is in force from {now.isoformat()}; all customers are scored again")
