"""`clv doctor`: is everything there that a worker needs?"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from platform import python_version
from typing import Any, Literal

import typer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from packaging.requirements import Requirement
from redis.exceptions import RedisError

from streams.cache import ScoreCache, connect
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, out, print_json
from streams.cli.options import AsJson
from streams.cli.running import run
from streams.cli.worker import describe
from streams.embedded import ServerNotInstalledError
from streams.embedded.broker import broker_program
from streams.embedded.redis import redis_program
from streams.parameters import ParameterFeed
from streams.settings import Settings
from streams.topics import plan

DISTRIBUTION = "clv-streams"
SECONDS = 10.0
"""How long the broker may take for an answer."""

Status = Literal["ok", "warn", "fail"]
STYLES: Mapping[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, what was found, and what to do about it."""

    name: str
    status: Status
    found: str
    advice: str = ""


def doctor(as_json: AsJson = False) -> None:
    """Check the installation, the configuration, the broker, its topics, Redis and the model.

    The exit status is 1 when something would keep a worker from working.
    """
    checks = [*_installation()]
    try:
        settings = load_settings()
    except CommandError as error:
        checks.append(Check("configuration", "fail", str(error), "correct it"))
    else:
        economics = settings.economics
        summary = f"valid; values in {economics.currency}, days in {economics.timezone}"
        checks.append(Check("configuration", "ok", summary))
        checks += run(_servers(settings))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(1)


def _print(checks: list[Check]) -> None:
    console = out()
    for check in checks:
        console.print(f"{check.status:>4}", style=STYLES[check.status], end="  ")
        console.print(f"{check.name}: {check.found}", markup=False, soft_wrap=True)
        if check.advice:
            console.print(f"      -> {check.advice}", markup=False, soft_wrap=True)


def _installation() -> Iterator[Check]:
    new_enough = sys.version_info >= (3, 11)
    advice = "" if new_enough else "install Python 3.11 or newer"
    yield Check("Python", "ok" if new_enough else "fail", python_version(), advice)
    yield _packages()
    try:
        broker_program()
        redis_program()
    except ServerNotInstalledError as error:
        yield Check("embedded servers", "warn", "not installed", str(error))
    else:
        yield Check("embedded servers", "ok", "a broker and a Redis can be started by `clv demo`")


def _packages() -> Check:
    try:
        needed = [Requirement(text) for text in requires(DISTRIBUTION) or ()]
    except PackageNotFoundError:
        return Check(
            "packages", "warn", f"{DISTRIBUTION} is not installed", "run `pip install -e .`"
        )
    wrong = []
    for need in needed:
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(need.name)
        except PackageNotFoundError:
            wrong.append(f"{need.name} is missing")
            continue
        if not need.specifier.contains(found, prereleases=True):
            wrong.append(f"{need.name} is {found}, not {need.specifier}")
    if wrong:
        return Check("packages", "fail", "; ".join(wrong), "run `pip install -e .` again")
    faust, kafka = version("faust-streaming"), version("aiokafka")
    return Check("packages", "ok", f"as required (faust-streaming {faust}, aiokafka {kafka})")


async def _servers(settings: Settings) -> list[Check]:
    return [*await _broker(settings), *await _redis(settings)]


async def _broker(settings: Settings) -> list[Check]:
    if settings.broker is None:
        advice = "set CLV_BROKER=host:port; `clv demo` needs none"
        return [Check("broker", "warn", "none is configured", advice)]
    try:
        need_broker(settings)
    except CommandError as error:
        return [Check("broker", "fail", str(error), "correct it")]
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    try:
        async with asyncio.timeout(SECONDS):
            await admin.start()
            names = set(await admin.list_topics())
            wanted = {topic.name for topic in plan(settings)}
            known = sorted(names & wanted)
            described = await admin.describe_topics(known) if known else []
            policies = await _policies(admin, known)
    except (KafkaError, TimeoutError, OSError) as error:
        found = f"{settings.broker} does not answer: {describe(error)}"
        return [Check("broker", "fail", found, "start it, or correct CLV_BROKER")]
    finally:
        await admin.close()
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    checks = [
        Check("broker", "ok", f"{settings.broker} answers"),
        _topics_check(settings, counts),
        _policies_check(settings, counts, policies),
    ]
    if settings.topics.models in counts:
        checks.append(await _parameters(settings))
    else:
        checks.append(_no_parameters())
    return checks


async def _policies(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, str] | None:
    """The cleanup policies by topic, or None when the broker cannot tell."""
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    policies = {}
    try:
        for response in await admin.describe_configs(resources):
            for resource in response.resources:
                code, name, entries = resource[0], resource[3], resource[4]
                if code:
                    return None
                policies[name] = _setting(entries, "cleanup.policy")
    except KafkaError:
        return None
    return {name: policy for name, policy in policies.items() if policy is not None}


def _setting(entries: list[tuple[Any, ...]], wanted: str) -> str | None:
    return next((str(entry[1]) for entry in entries if entry[0] == wanted), None)


def _topics_check(settings: Settings, counts: Mapping[str, int]) -> Check:
    together = [each.name for each in plan(settings) if each.name != settings.topics.models]
    known = {name: counts[name] for name in together if name in counts}
    if len(set(known.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in known.items())
        advice = "recreate those that differ; all need the same number of partitions"
        return Check("topics", "fail", f"partition counts differ: {listed}", advice)
    missing = [each.name for each in plan(settings) if each.name not in counts]
    if missing:
        advice = "the first worker, or `clv load`, creates them"
        return Check("topics", "warn", f"missing: {', '.join(missing)}", advice)
    partitions = next(iter(known.values()))
    return Check("topics", "ok", f"all {len(counts)} are there, with {partitions} partitions each")


def _policies_check(
    settings: Settings, counts: Mapping[str, int], policies: Mapping[str, str] | None
) -> Check:
    name = "cleanup policies"
    if policies is None or (counts and not policies):
        return Check(name, "warn", "the broker cannot tell", "fine for the embedded broker")
    wrong = []
    for topic in plan(settings):
        policy = policies.get(topic.name)
        compacts = topic.config.get("cleanup.policy") == "compact"
        if policy is not None and ("compact" in policy) != compacts:
            wanted = "compact" if compacts else "delete"
            wrong.append(f"{topic.name} has {policy}, not {wanted}")
    if wrong:
        advice = "set cleanup.policy: what must be kept would be deleted, or events compacted away"
        return Check(name, "fail", "; ".join(wrong), advice)
    return Check(name, "ok", f"right for {len(policies)} topics")


async def _parameters(settings: Settings) -> Check:
    try:
        async with (
            asyncio.timeout(SECONDS),
            ParameterFeed(settings.topics.models, bootstrap_servers=settings.broker) as feed,
        ):
            parameters = feed.current
    except (KafkaError, TimeoutError) as error:
        return Check("parameters", "fail", f"cannot be read: {describe(error)}", "see the broker")
    if parameters is None:
        return _no_parameters()
    currency = settings.economics.currency
    if parameters.currency != currency:
        found = f"{parameters.version} is in {parameters.currency}, values are in {currency}"
        return Check("parameters", "fail", found, f"fit on orders in {currency}, and publish")
    found = f"{parameters.version}, fitted on {parameters.customers} customers"
    return Check("parameters", "ok", found)


def _no_parameters() -> Check:
    return Check(
        "parameters",
        "warn",
        "none are published: the simple average is used",
        "publish some by `clv fit FILE --publish`",
    )


async def _redis(settings: Settings) -> list[Check]:
    if settings.redis is None:
        advice = "set CLV_REDIS=redis://host:port/0; `clv demo` needs none"
        return [Check("Redis", "warn", "none is configured", advice)]
    try:
        redis = connect(settings.redis)
    except ValueError as error:
        return [Check("Redis", "fail", f"CLV_REDIS: {error}", "write redis://host:port/0")]
    try:
        cached = await ScoreCache(redis, settings.redis_prefix).size()
        memory: dict[str, Any] = await redis.info("memory")
    except (RedisError, OSError) as error:
        found = f"{settings.redis} does not answer: {describe(error)}"
        return [Check("Redis", "fail", found, "start it, or correct CLV_REDIS")]
    finally:
        await redis.aclose()
    checks = [Check("Redis", "ok", f"{settings.redis} answers; {cached} customers are cached")]
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        advice = "set maxmemory-policy noeviction: evicted keys would make totals wrong"
        checks.append(Check("Redis memory", "warn", f"maxmemory-policy is {policy}", advice))
    return checks
