"""`clv worker`: fold events until told to stop."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import structlog
import typer
from pydantic import SecretStr

from streams.cache import RedisUnusable
from streams.claims import OutputsClaimed
from streams.cli.configuration import load_settings, need_broker, need_erasure_key, need_redis
from streams.cli.console import CommandError, out
from streams.cli.logs import configure_logging
from streams.cli.options import Verbose
from streams.cli.running import command
from streams.embedded import embedded_servers
from streams.kafka.connection import OPEN, Broker, BrokerUnusable, SecurityUnusable
from streams.kafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from streams.kafka.topics import TopicsUnusable
from streams.pipeline import Pipeline
from streams.settings import RedisSecurity, Settings
from streams.transport import BatchApp
from streams.worker import collect_seldom, run_worker, running_app

log = structlog.get_logger(__name__)

_REFUSED: dict[type[BaseException], str] = {
    TopicAuthorizationFailedError: "topic",
    GroupAuthorizationFailedError: "group",
    ClusterAuthorizationFailedError: "the cluster",
}
REFUSALS = tuple(_REFUSED)
"""What a broker says to a user without the right."""


@command
async def worker(
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="Start a broker and a Redis in memory, and print their addresses and a key.",
        ),
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Fold events into customers' values until SIGINT or SIGTERM."""
    configure_logging(verbose=verbose)
    settings = load_settings()
    if not embedded:
        need_broker(settings)
        need_redis(settings)
        need_erasure_key(settings)
    async with AsyncExitStack() as stack:
        if embedded:
            servers = await stack.enter_async_context(embedded_servers())
            broker, redis = Broker(servers.broker.address), servers.redis.url
            # What is configured is about other servers.
            changes: dict[str, Any] = {"kafka_security": OPEN, "redis_security": RedisSecurity()}
            lines = [
                f"CLV_BROKER={broker}",
                f"CLV_REDIS={servers.redis.address}",
                f"CLV_REDIS_SECURITY__PASSWORD_FILE={servers.redis.password_file}",
            ]
            if settings.erasure_key is None:
                key = servers.broker.erasure_key
                changes["erasure_key"] = SecretStr(key)
                lines.append(f"CLV_ERASURE_KEY={key}")
            settings = settings.model_copy(update=changes)
            for line in lines:
                out().print(line, soft_wrap=True)
        else:
            broker, redis = need_broker(settings), need_redis(settings)
        try:
            await run_worker(settings, broker, redis)
        except (TopicsUnusable, OutputsClaimed, BrokerUnusable, RedisUnusable, SecurityUnusable):
            raise
        except Exception as error:
            if verbose:
                log.exception("worker crashed")
            raise CommandError(f"the worker stopped: {describe(error)}") from error


@asynccontextmanager
async def worker_here(
    settings: Settings, broker: Broker, redis: str, name: str
) -> AsyncIterator[tuple[BatchApp, Pipeline]]:
    """A worker in this process; if it crashes, CommandError says why, and not what followed."""
    app, threshold = None, gc.get_threshold()
    collect_seldom()
    try:
        async with running_app(settings, broker, redis) as (app, pipeline):
            yield app, pipeline
    except Exception as error:
        if app is not None and app.crashed:
            raise CommandError(f"{name} crashed: {describe(app.crash_reason)}") from error
        raise
    finally:
        gc.set_threshold(*threshold)


def describe(error: BaseException) -> str:
    """An error in one line, with its class; for a refusal also what this user may not touch."""
    if isinstance(error, REFUSALS):
        kind = _REFUSED[type(error)]
        return f"{type(error).__name__}: this user has not the right to do that with {kind}" + (
            f" {_named(error.args[0])}" if error.args else ""
        )
    text, name = str(error), type(error).__name__
    return text if text.startswith(name) else f"{name}: {text}" if text else repr(error)


def _named(what: object) -> str:
    """A topic or a group, or several topics, as aiokafka tells them."""
    return ", ".join(sorted(map(str, what))) if isinstance(what, set | list) else str(what)
