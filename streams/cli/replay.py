"""`clv replay`: a recording, or topics as they are, once more."""

from __future__ import annotations

from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, print_json
from streams.cli.options import AsJson
from streams.cli.record_options import Since, Until, parse_since, parse_until
from streams.cli.replay_compare import (
    compare,
    compare_with_kept,
    configured,
    print_comparison,
    with_parameters,
)
from streams.cli.replay_memory import replay_in_memory
from streams.cli.replay_sandbox import replay_into_sandbox
from streams.cli.replay_source import Asked
from streams.cli.replay_topics import replay_into_production, replay_into_topics
from streams.cli.running import run
from streams.recording import Pace
from streams.recording.compare import Comparison
from streams.settings import Settings


class Target(StrEnum):
    """Where a replay goes."""

    memory = "memory"
    topics = "topics"
    sandbox = "sandbox"
    production = "production"


def replay(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|DATASET|TOPICS",
            help="A recording; a data set or a file of orders; or topics at the broker: all, "
            "inputs, or some as for record.",
        ),
    ],
    *,
    into: Annotated[Target, typer.Option(help="Where to.")] = Target.memory,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="NAME.", help="Of the topics' names, for --into topics."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="App id, and prefix of everything, of a sandbox."),
    ] = None,
    yes_touch: Annotated[
        str | None,
        typer.Option(
            "--yes-touch",
            metavar="APP_ID",
            help="The configured CLV_APP_ID, for --into production.",
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Of topics that are made; as recorded, if not given."),
    ] = None,
    speed: Annotated[
        str,
        typer.Option(metavar="max|N", help="N times as fast as it was, by the timestamps."),
    ] = "max",
    step: Annotated[
        bool, typer.Option("--step", help="One event at a time, and what it leads to; in memory.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted replay into topics ended.")
    ] = False,
    comparison: Annotated[
        tuple[Path, Path] | None,
        typer.Option("--compare", metavar="A.toml B.toml", help="Replay under both, in memory."),
    ] = None,
    against_parameters: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Compare with other fitted parameters, as `clv fit` writes them."
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Keep what came of it, to compare with; in memory."),
    ] = None,
    against_kept: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Compare with what --keep kept, such as of another version of this program.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file of --keep, if it exists.")
    ] = False,
    number: Annotated[
        int | None,
        typer.Option("-n", "--number", min=0, help="Customers to show in a comparison: 10."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay events in their order, and say what came of them.

    In memory nothing else is needed; nothing that runs is touched. What is replayed into topics, or
    a sandbox, has names of its own.
    """
    settings = load_settings()
    economics = settings.economics
    asked = Asked(source, parse_since(since, economics), parse_until(until, economics))
    _check(
        into,
        prefix=prefix,
        group=group,
        yes_touch=yes_touch,
        partitions=partitions,
        keep=keep,
        step=step,
        resume=resume,
    )
    comparisons = sum(each is not None for each in (comparison, against_parameters, against_kept))
    if comparisons:
        if into is not Target.memory or step or resume or speed != "max" or keep is not None:
            raise CommandError(
                "--compare, --against-parameters and --against-kept replay in memory, as fast as "
                "it goes: leave out --into, --step, --resume, --speed and --keep"
            )
        if comparisons > 1:
            raise CommandError(
                "say one of --compare, --against-parameters and --against-kept, not more"
            )
        result = run(_compared(asked, settings, comparison, against_parameters, against_kept))
        _show(result, 10 if number is None else number, as_json=as_json)
        return
    if number is not None:
        raise CommandError("-n says how many customers a comparison shows; there is none here")
    if step and speed != "max":
        raise CommandError("--step waits for you after each event: leave out --speed")
    if keep is not None:
        _check_keep(keep, source, force=force)
    pace = parse_speed(speed)
    if into is Target.memory:
        run(replay_in_memory(settings, asked, pace, keep_in=keep, step=step, as_json=as_json))
    elif into is Target.topics:
        run(
            replay_into_topics(
                settings, asked, prefix or "", partitions, pace, resume=resume, as_json=as_json
            )
        )
    elif into is Target.sandbox:
        run(
            replay_into_sandbox(
                settings, asked, group or "", partitions, pace, resume=resume, as_json=as_json
            )
        )
    else:
        _check_named(settings, yes_touch)
        run(replay_into_production(settings, asked, pace, as_json=as_json))


def _compared(
    asked: Asked,
    settings: Settings,
    comparison: tuple[Path, Path] | None,
    against_parameters: Path | None,
    against_kept: Path | None,
) -> Coroutine[Any, Any, Comparison]:
    if against_kept is not None:
        return compare_with_kept(asked, against_kept, settings)
    if comparison is not None:
        return compare(asked, *configured(*comparison))
    return compare(asked, *with_parameters(settings, against_parameters or Path()))


def _show(comparison: Comparison, number: int, *, as_json: bool) -> None:
    """Print a comparison; the exit status says whether anything differs."""
    if as_json:
        print_json(comparison.document(number))
    else:
        print_comparison(comparison, number)
    if comparison.differs:
        raise typer.Exit(1)


def parse_speed(text: str) -> Pace:
    """The pace of "max", or of a number of times real time; CommandError."""
    if text == "max":
        return Pace(None)
    try:
        times = float(text)
    except ValueError:
        times = 0.0
    if not 0 < times < float("inf"):
        raise CommandError(f"--speed is {text!r}: write max, or a number above 0, such as 60")
    return Pace(times)


def _check(
    into: Target,
    *,
    prefix: str | None,
    group: str | None,
    yes_touch: str | None,
    partitions: int | None,
    keep: Path | None,
    step: bool,
    resume: bool,
) -> None:
    needed = {Target.topics: ("--prefix", prefix), Target.sandbox: ("--group", group)}
    for target, (option, value) in needed.items():
        if into is target and not value:
            raise CommandError(f"--into {target} needs {option} NAME: its topics' names begin so")
        if into is not target and value is not None:
            raise CommandError(f"{option} is for --into {target}")
    if yes_touch is not None and into is not Target.production:
        raise CommandError("--yes-touch is for --into production")
    for option, given in (("--step", step), ("--keep", keep is not None)):
        if given and into is not Target.memory:
            raise CommandError(f"{option} is for --into memory")
    for option, given in (("--resume", resume), ("--partitions", partitions is not None)):
        if given and into not in (Target.topics, Target.sandbox):
            raise CommandError(f"{option} is for --into topics and --into sandbox")


def _check_keep(keep: Path, source: str, *, force: bool) -> None:
    """Refuse what cannot be written, or should not, before anything is replayed."""
    if keep.is_dir() or not keep.parent.is_dir():
        raise CommandError(f"--keep {keep}: name a file in a directory that exists")
    if keep.exists():
        if Path(source).exists() and keep.samefile(source):
            raise CommandError(f"--keep {keep}: that is what is replayed; name another file")
        if not force:
            raise CommandError(f"--keep {keep}: it exists; name another file, or use --force")


def _check_named(settings: Settings, yes_touch: str | None) -> None:
    if yes_touch != settings.app_id:
        raise CommandError(
            "--into production publishes to the topics that the service reads: say that you mean "
            f"it by --yes-touch and its CLV_APP_ID, which is {settings.app_id!r} here"
            + ("" if yes_touch is None else f", not {yes_touch!r}")
        )
