"""`clv demo`: the whole service on this machine, on a published data set."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from pydantic import SecretStr

from models.economics import Economics
from streams.addresses import shown_url
from streams.cli.configuration import load_settings
from streams.cli.console import CommandError, fail, out, print_json, say
from streams.cli.demo_pages import pages_beside
from streams.cli.demo_report import Report, report_tables
from streams.cli.demo_run import run_through
from streams.cli.logs import configure_logging
from streams.cli.options import AsJson, Seed, Verbose
from streams.cli.running import run
from streams.cli.sources import SIMULATED_NOTE, Source, open_source
from streams.datasets import DATASETS
from streams.embedded import embedded_servers
from streams.settings import KafkaSecurity, RedisSecurity, Settings, Topics

_STOREFRONT: Final = Path("examples/storefront.py")


def demo(
    *,
    dataset: Annotated[Literal["cdnow", "online-retail"], typer.Option(help="Data set.")] = "cdnow",
    once: Annotated[
        bool, typer.Option("--once", help="End when everything is done, instead of staying up.")
    ] = False,
    seed: Seed = 1,
    simulated: Annotated[
        bool | None,
        typer.Option(
            "--simulated/--no-simulated",
            help="Add simulated support, refunds, cancellations and acquisition costs. "
            "Default: yes for cdnow, which has orders only.",
        ),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Run the whole service on a data set: broker, Redis, worker, fitter, and what comes out.

    A broker and a Redis in memory are started, unless CLV_BROKER or CLV_REDIS name others; there
    the demo keeps to topics and keys of its own.
    """
    if verbose:
        configure_logging(verbose=True)
    with_simulated = dataset == "cdnow" if simulated is None else simulated
    economics = Economics(currency=DATASETS[dataset].currency)
    source = open_source(dataset, economics, simulated=with_simulated, seed=seed)
    say(f"{DATASETS[dataset].title} ({DATASETS[dataset].source})")
    if source.simulated:
        say(f"Only the orders are real: {SIMULATED_NOTE}.")
    status = run(_demo(source, once=once, as_json=as_json))
    raise typer.Exit(status)


async def _demo(source: Source, *, once: bool, as_json: bool) -> int:
    async with (
        _settings(source) as settings,
        pages_beside(settings, wanted=not once) as pages,
        run_through(settings, source, pages.served) as (report, crashed),
    ):
        if as_json:
            print_json(report.document(), compact=True)
        else:
            for table in report_tables(report):
                out().print(table)
        problems = report.problems()
        for problem in problems:
            fail(problem)
        if once or problems:
            return 1 if problems else 0
        _say_where(settings, report, pages.address)
        try:
            reason = await crashed
        except asyncio.CancelledError:
            say("Stopping.")
            return 0
        raise CommandError(f"the demo cannot go on: {reason!r}")


@asynccontextmanager
async def _settings(source: Source) -> AsyncIterator[Settings]:
    """Settings for servers that run; what is not configured is started."""
    configured = load_settings(economics=source.economics)
    async with embedded_servers(
        broker=configured.broker is None, redis=configured.redis is None
    ) as servers:
        own = f"clv-demo-{secrets.token_hex(3)}"
        # For the data set, a long silence has not begun.
        serve = configured.serve.model_copy(update={"now": source.as_of})
        changes: dict[str, object] = {"sweep_interval": 0, "explain_values": True, "serve": serve}
        if configured.broker is None:
            # Nobody else is in the group: the join need not wait for anyone.
            changes |= {
                "broker": servers.broker.address,
                "kafka_security": KafkaSecurity(),
                "session_timeout": 2.0,
                "heartbeat_interval": 0.5,
            }
        else:
            names = {name: f"{own}.{topic}" for name, topic in configured.topics}
            changes |= {"app_id": own, "topics": Topics(**names)}
        if configured.redis is None:
            changes |= {
                "redis": servers.redis.address,
                "redis_security": RedisSecurity(password_file=servers.redis.password_file),
            }
        else:
            changes["redis_prefix"] = own
        if configured.erasure_key is None:
            # Nothing of a demo is gone on with: nobody needs the key again.
            changes["erasure_key"] = SecretStr(secrets.token_hex(32))
        yield configured.model_copy(update=changes)


def _say_where(settings: Settings, report: Report, pages: str) -> None:
    clv = program()
    example = report.top[0]["customer_id"] if report.top else "ID"
    topics = settings.topics
    say(
        "",
        f"Pages: {pages}/",
        "The service is running. "
        f"Broker {shown_url(settings.broker or '')}, Redis {shown_url(settings.redis or '')}.",
        f"Topics in: {', '.join(topics.inputs)}; "
        f"out: {topics.updates}, {topics.segment_changes}, {topics.dead_letters}.",
        "In another terminal:",
        f"  export {' '.join(_variables(settings))}",
        f"  {clv} show {shlex.quote(example)}",
        f"  {clv} top",
        *([] if "CLV_BROKER" in os.environ else _own_servers(settings)),
        "Ctrl-C ends it, and what is in memory with it.",
    )


def _variables(settings: Settings) -> Iterator[str]:
    """By which another program uses the same service; what is set already is left out."""
    values: dict[str, object] = {
        "CLV_REDIS": shown_url(settings.redis or ""),
        "CLV_REDIS_SECURITY__PASSWORD_FILE": settings.redis_security.password_file,
    }
    if "CLV_REDIS" in os.environ:
        values["CLV_REDIS_PREFIX"] = settings.redis_prefix
    if "CLV_BROKER" not in os.environ:
        values["CLV_BROKER"] = shown_url(settings.broker or "")
        values["CLV_ECONOMICS__CURRENCY"] = settings.economics.currency
        if load_settings().erasure_key is None:
            # The demo's own: it is of use for this broker only, and nobody's secret.
            values["CLV_ERASURE_KEY"] = settings.erasure_secret.decode()
    for name, value in values.items():
        if value and name not in os.environ:
            yield f"{name}={shlex.quote(str(value))}"


def program() -> str:
    """How this program is called here: make installs it where no shell looks."""
    program = Path(sys.argv[0])
    if shutil.which("clv"):
        return "clv"
    if program.name == "clv":
        return shlex.quote(sys.argv[0])
    return f"{_python()} -m streams.cli"


def _python() -> str:
    python = Path(sys.executable)
    here = Path.cwd()
    return shlex.quote(str(python.relative_to(here) if python.is_relative_to(here) else python))


def _own_servers(settings: Settings) -> Iterator[str]:
    """What else can be done with a broker of the demo's own."""
    yield f"  {program()} models list"
    if _STOREFRONT.is_file():
        broker, currency = shown_url(settings.broker or ""), settings.economics.currency
        now = settings.serve.now
        # An order of today would make all customers of an old data set silent for years.
        day = "" if now is None else f" {now:%Y-%m-%d}"
        yield "Publish an order of a customer c1, and watch it come:"
        yield f"  {_python()} {_STOREFRONT} {broker} {currency}{day}"
