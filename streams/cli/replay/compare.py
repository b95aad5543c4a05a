"""Comparing replays: two configurations, other parameters, or a snapshot."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from models.contracts.parameters import Parameters
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, print_json, warn
from streams.cli.options import AsJson
from streams.cli.parameters_file import read_parameters
from streams.cli.record_options import Since, Until
from streams.cli.replay.options import SourceName
from streams.cli.replay.source import Asked, repeatable, shown, warn_of_source
from streams.outcome.compare import Comparison, Difference, compared
from streams.outcome.outcome import Outcome, Snapshot
from streams.outcome.snapshot import read_snapshot
from streams.replay.memory import in_memory
from streams.replay.orders import FromOrders
from streams.replay.source import FromFile
from streams.settings import Settings


async def compare(
    source: SourceName,
    *,
    settings: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A.toml B.toml", help="Under these two configurations."),
    ] = None,
    parameters: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="With other fitted parameters, as `clv fit` writes them."
        ),
    ] = None,
    snapshot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With what `clv replay memory --snapshot` wrote, such as by another version of "
            "this program.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    number: Annotated[
        int, typer.Option("-n", "--number", min=0, help="How many customers to show.")
    ] = 10,
    as_json: AsJson = False,
) -> None:
    """In memory, to be compared. The exit status is 1 when anything differs."""
    configured_here = load_settings()
    asked = Asked.of(source, since, until, configured_here.economics)
    if sum(each is not None for each in (settings, parameters, snapshot)) != 1:
        raise CommandError("say one of --settings, --parameters and --snapshot")
    if snapshot is not None:
        comparison = await compare_with_snapshot(asked, snapshot, configured_here)
    elif settings is not None:
        first, second = settings
        comparison = await compare_variants(asked, _configured(first), _configured(second))
    else:
        fitted = _with_parameters(configured_here, parameters or Path())
        comparison = await compare_variants(asked, Variant("as recorded", configured_here), fitted)
    if as_json:
        print_json(comparison.document(number))
    else:
        print_comparison(comparison, number)
    if comparison.differs:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Variant:
    """One side of a comparison; parameters: used instead of those in the recording."""

    name: str
    settings: Settings
    parameters: Parameters | None = None


def _with_parameters(settings: Settings, path: Path) -> Variant:
    try:
        parameters = read_parameters(path, settings.economics.currency)
    except (OSError, CommandError) as error:
        raise CommandError(f"--parameters {error}") from error
    return Variant(f"parameters {parameters.version}", settings, parameters)


async def compare_variants(asked: Asked, first: Variant, second: Variant) -> Comparison:
    """Replay a recording in memory under both, and compare; CommandError, RecordingUnusable."""
    _check_repeatable(asked)
    currencies = first.settings.economics.currency, second.settings.economics.currency
    if currencies[0] != currencies[1]:
        raise CommandError(
            f"values in {currencies[0]} and in {currencies[1]} cannot be compared: configure one "
            "currency in both"
        )
    settings = first.settings
    source = repeatable(asked, settings.economics, settings.partitions)
    before, _ = await _replayed(first, source)
    after, _ = await _replayed(second, source)
    warn_of_source(asked, source)
    return compared(before, after, (first.name, second.name), currencies[0])


async def compare_with_snapshot(asked: Asked, path: Path, settings: Settings) -> Comparison:
    """Replay a recording in memory, and compare with a snapshot of an earlier replay.

    Errors: CommandError, RecordingUnusable, SnapshotUnusable, OSError.
    """
    _check_repeatable(asked)
    head, before = read_snapshot(path)
    currency = settings.economics.currency
    if head.currency != currency:
        raise CommandError(
            f"--snapshot {path}: its values are in {head.currency}, and the shop's "
            f"currency is {currency}: configure that of the other"
        )
    source = repeatable(asked, settings.economics, settings.partitions)
    now, replayed = await _replayed(Variant("now", settings), source)
    if replayed != head.input:
        raise CommandError(
            f"--snapshot {path}: it is of other events, replayed from {head.source}: "
            "replay the same ones, with the same --from and --until"
        )
    warn_of_source(asked, source)
    return compared(before, now, (f"{path.name}, by {head.program}", "now"), currency)


def _check_repeatable(asked: Asked) -> None:
    if asked.is_topics:
        raise CommandError(
            "a comparison reads the same events twice, and topics go on: `clv record` them first"
        )


async def _replayed(variant: Variant, source: FromFile | FromOrders) -> tuple[Snapshot, str]:
    """The snapshot of a variant, and the digest of the replayed events."""
    outcome = Outcome()
    async with in_memory(
        variant.settings, source, outcome, parameters=variant.parameters
    ) as replay:
        with shown(source, f"Replaying, {variant.name}") as moved:
            await replay.run(progress=moved)
    for problem in replay.refused_parameters:
        warn(f"{variant.name}: parameters were refused: {problem}")
    return outcome.snapshot(), replay.input


def _configured(path: Path) -> Variant:
    """The configuration of a TOML file; the present configuration fills the gaps."""
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"--settings {path}: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"--settings {path}: not TOML: {error}") from error
    try:
        return Variant(path.name, load_settings(**given))
    except CommandError as error:
        first, *more = error.lines
        raise CommandError(f"--settings {path}: {first}", *more) from error


def print_comparison(comparison: Comparison, number: int) -> None:
    """Print what differs, for people."""
    console = out()
    first, second = comparison.results
    names, currency = comparison.names, comparison.currency
    table = Table(box=None, pad_edge=False)
    for heading in ("", *names):
        table.add_column(heading, justify="left" if heading == "" else "right")
    table.add_row("customers", f"{first.customers:,}", f"{second.customers:,}")
    table.add_row(f"value, {currency}", f"{first.value:,.2f}", f"{second.value:,.2f}")
    table.add_row("changes of segment", f"{first.changes:,}", f"{second.changes:,}")
    for reason in sorted({*first.dead_letters, *second.dead_letters}):
        refused = [result.dead_letters.get(reason, 0) for result in comparison.results]
        table.add_row(f"refused, {reason}", *(f"{count:,}" for count in refused))
    console.print(table)
    console.print()
    if not comparison.differs:
        console.print("Nothing differs: values, segments and their changes are the same.")
        return
    if not comparison.differences and comparison.changes_differ:
        console.print(
            "All values and segments are the same at the end, but not the changes of segment on "
            "the way there."
        )
        console.print()
    console.print(
        f"{len(comparison.differences):,} customers differ, by {comparison.by:+,.2f} {currency} "
        f"in all ({comparison.moved:,.2f} whichever way)",
    )
    for name, (customers, by) in comparison.components().items():
        adds = "" if by is None else f", {by:+,.2f} {currency}"
        console.print(f"{name}: {customers:,} customers{adds}")
    for dimension, a, b, customers, by in comparison.transitions():
        console.print(
            f"{dimension}: {a or 'none'} -> {b or 'none'}  {customers:,} customers, "
            f"{by:+,.2f} {currency}",
        )
    for each in comparison.differences[:number]:
        console.print()
        for line in _customer(each, currency):
            console.print(line, soft_wrap=True)


def _customer(difference: Difference, currency: str) -> list[str]:
    first, second = _money(difference.first), _money(difference.second)
    lines = [f"{difference.customer}: {first} -> {second} {currency}, {difference.by:+,.2f}"]
    lines += [
        f"    {name}: {_number(a)} -> {_number(b)}"
        for name, (a, b) in difference.components.items()
    ]
    for moved in difference.moved:
        lines.append(
            f"    {moved.dimension}: {moved.first or 'none'} -> {moved.second or 'none'}, because "
            f"{_evidence(moved.because_first)} -> {_evidence(moved.because_second)}"
        )
    return lines


def _evidence(values: object) -> str:
    if not isinstance(values, dict) or not values:
        return "nothing"
    return ", ".join(f"{name} {_number(value)}" for name, value in values.items())


def _money(value: float | None) -> str:
    return "none" if value is None else f"{value:,.2f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.4g}"
