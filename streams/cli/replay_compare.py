"""The same events under two configurations, or two sets of parameters, and what differs."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from models.contracts.parameters import Parameters
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, out, warn
from streams.cli.replay_source import Asked, repeatable, shown, warn_of_source
from streams.cli.score import read_parameters
from streams.recording import FromFile, FromOrders
from streams.recording.compare import Comparison, Difference, Valued, compared
from streams.recording.kept import read_kept
from streams.recording.memory import in_memory
from streams.settings import Settings


@dataclass(frozen=True, slots=True)
class Variant:
    """One side of a comparison; parameters: in place of those in the recording."""

    name: str
    settings: Settings
    parameters: Parameters | None = None


def configured(first: Path, second: Path) -> tuple[Variant, Variant]:
    """The configurations of two TOML files; what they leave out is as it is configured here."""
    return _configured(first), _configured(second)


def with_parameters(settings: Settings, path: Path) -> tuple[Variant, Variant]:
    """The recorded parameters, and those of a file; CommandError."""
    try:
        parameters = read_parameters(path, settings.economics.currency)
    except (OSError, CommandError) as error:
        raise CommandError(f"--against-parameters {error}") from error
    return (
        Variant("as recorded", settings),
        Variant(f"parameters {parameters.version}", settings, parameters),
    )


async def compare(asked: Asked, first: Variant, second: Variant) -> Comparison:
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
    before, _ = await _valued(first, source)
    after, _ = await _valued(second, source)
    warn_of_source(asked, source)
    return compared(before, after, (first.name, second.name), currencies[0])


async def compare_with_kept(asked: Asked, path: Path, settings: Settings) -> Comparison:
    """Replay a recording in memory, and compare with what another replay of it has kept.

    Errors: CommandError, RecordingUnusable, KeptUnusable, OSError.
    """
    _check_repeatable(asked)
    kept = read_kept(path)
    currency = settings.economics.currency
    if kept.head.currency != currency:
        raise CommandError(
            f"--against-kept {path}: its values are in {kept.head.currency}, and the shop's "
            f"currency is {currency}: configure that of the other"
        )
    source = repeatable(asked, settings.economics, settings.partitions)
    now, replayed = await _valued(Variant("now", settings), source)
    if replayed != kept.head.input:
        raise CommandError(
            f"--against-kept {path}: it is of other events, replayed from {kept.head.source}: "
            "replay the same ones, with the same --from and --until"
        )
    warn_of_source(asked, source)
    return compared(kept, now, (f"{path.name}, by {kept.head.program}", "now"), currency)


def _check_repeatable(asked: Asked) -> None:
    if asked.is_topics:
        raise CommandError(
            "a comparison reads the same events twice, and topics go on: `clv record` them first"
        )


async def _valued(variant: Variant, source: FromFile | FromOrders) -> tuple[Valued, str]:
    """What a variant comes to, and the digest of what was replayed."""
    valued = Valued()
    async with in_memory(
        variant.settings, source, [valued], parameters=variant.parameters
    ) as replay:
        with shown(source, f"Replaying, {variant.name}") as moved:
            await replay.run(progress=moved)
    for problem in replay.refused_parameters:
        warn(f"{variant.name}: parameters were refused: {problem}")
    return valued, replay.input


def _configured(path: Path) -> Variant:
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"--compare {path}: {error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"--compare {path}: not TOML: {error}") from error
    try:
        return Variant(path.name, load_settings(**given))
    except CommandError as error:
        first, *more = error.lines
        raise CommandError(f"--compare {path}: {first}", *more) from error


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
    if not comparison.differs:
        console.print()
        console.print("Nothing differs: values, segments and their changes are the same.")
        return
    if not comparison.differences and comparison.told_differs:
        console.print()
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
