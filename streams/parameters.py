"""Fitted parameters from `clv.models`: every worker reads all of them, and from when they hold."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Protocol, Self

import structlog
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from models.errors import ClvError
from models.timeline import Timeline
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import Follower, follower
from streams.registry.reading import read_registry, write_document
from streams.registry.records import is_parameters

log = structlog.get_logger(__name__)

_POLL_MILLISECONDS = 500


class Feed(Protocol):
    """The published parameters, from `ParameterFeed` or a simulation."""

    @property
    def timeline(self) -> Timeline[Parameters]:
        """The parameters published so far; another object when there are more."""

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until parameters of this version have arrived; say whether they have."""


class ParameterFeed:
    """The published parameters, kept current by a consumer without a group.

    Used as an async context manager: on entry everything already published has been read.
    Parameters in another currency than the one given are refused.
    """

    def __init__(self, broker: Broker, topic: str, currency: str | None = None) -> None:
        self._broker = broker
        self._partition = TopicPartition(topic, 0)
        self._timeline: Timeline[Parameters] = Timeline()
        self._currency = currency
        self._seen: set[str] = set()
        self._arrived = asyncio.Condition()
        self._closing = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            following = await stack.enter_async_context(follower(self._broker, self._partition))
            while not await self._poll(following):
                pass
            # `__aexit__` does not run when this raises: then the stack closes the client here.
            self._closing = stack.pop_all()
        self._task = asyncio.create_task(self._follow(following))
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._closing.aclose()

    @property
    def timeline(self) -> Timeline[Parameters]:
        """The parameters published so far; another object when there are more.

        Raises the error that ended the reading of the topic, so that outdated ones are not used.
        """
        if self._task is not None and self._task.done():
            self._task.result()
        return self._timeline

    async def wait_for(self, version: str, timeout: float) -> bool:  # noqa: ASYNC109
        """Wait until parameters of this version have arrived; say whether they have."""
        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: version in self._seen)
        except TimeoutError:
            return False
        return True

    async def _follow(self, following: Follower) -> None:
        while True:
            await self._poll(following)

    async def _poll(self, following: Follower) -> bool:
        """Read on; return whether everything published has been read."""
        read = await following.read(_POLL_MILLISECONDS)
        for record in read.records:
            if record.value is not None and is_parameters(record.key):
                self._read(record.offset, record.value)
        if read.records:
            async with self._arrived:
                self._arrived.notify_all()
        return read.at_end

    def _read(self, offset: int, value: bytes) -> None:
        where = f"{self._partition}@{offset}"
        try:
            parameters = Parameters.model_validate_json(value)
        except ValidationError as error:
            log.warning("parameters refused; the former ones stay", where=where, error=str(error))
            return
        if self._currency not in (None, parameters.currency):
            log.warning(
                "parameters refused; they are not in the shop's currency",
                where=where,
                currency=parameters.currency,
                expected=self._currency,
            )
            return
        self._timeline = self._timeline.with_(parameters)
        self._seen.add(parameters.version)
        since = parameters.holds_from
        log.info(
            "parameters in use",
            where=where,
            version=parameters.version,
            since="ever" if since is None else since.isoformat(),
        )


class ParametersPublished(ClvError):
    """Parameters of this version are published already, and say something else.

    held: those. Parameters are immutable, so that a replay gives what was published.
    """

    def __init__(self, held: Parameters) -> None:
        since = "ever" if held.holds_from is None else held.holds_from.isoformat()
        super().__init__(
            f"parameters {held.version} are published already, hold from {since}, and never "
            f"change: give others a new version, or run `clv models rollback {held.version}` to "
            "put those in force again"
        )
        self.held = held


async def publish_parameters(broker: Broker, topic: str, parameters: Parameters) -> None:
    """Publish parameters for every worker to use from when they hold; once more changes nothing.

    Raises
    ------
    ParametersPublished
        if there are parameters of this version with any other content.
    ValueError
        if the version has a slash, by which other records of the topic are told apart.
    """
    if "/" in parameters.version:
        raise ValueError(f"the version {parameters.version!r} has a slash; name it without one")
    registry = await read_registry(broker, topic, parameters.currency)
    held = registry.published.get(parameters.version)
    if held is None:
        await write_document(broker, topic, parameters.version.encode(), parameters)
    elif held != parameters:
        raise ParametersPublished(held)
